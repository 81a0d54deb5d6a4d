// What the tests of attention and its probe hold an answer to, on the processor and on cards.
#pragma once

#include "cache_problem.h"

namespace kernel_test {

struct Allowed {
  double out, lse, lse_relative, mass, mass_relative;
};

inline void check_answer(const Answer& got, const Answer& want, const Allowed& most, const std::string& what) {
  check_close(got.out, want.out, 0, most.out, what);
  check_close(got.lse, want.lse, most.lse_relative, most.lse, what + " lse");
  for (size_t h = 0; h < got.mass.size(); ++h) {
    for (size_t j = 0; j < got.mass[h].size(); ++j) {
      CHECK_NEAR(got.mass[h][j], want.mass[h][j], most.mass + most.mass_relative * want.mass[h][j]);
    }
  }
}

// Room for a probe, all 2: [n * heads][rows] probabilities, or [heads][rows] sums that are added to. Rows that a head has
// not stay 2.
inline Matrix probe_room(const Problem& problem, bool per_row) {
  const int heads = problem.shape().heads;
  int most = 0;
  for (int h = 0; h < problem.spec().kv_heads; ++h) most = std::max(most, problem.rows(h));
  Matrix y(per_row ? problem.spec().n * heads : heads, most);
  for (int t = 0; t < y.rows(); ++t) std::fill(&y.at(t, 0), &y.at(t, 0) + y.columns(), 2.0f);
  return y;
}

inline Matrix expected_probe(const Problem& problem, bool per_row) {
  const int heads = problem.shape().heads, n = problem.spec().n;
  Matrix y = probe_room(problem, per_row);
  std::vector<double> p;
  for (int h = 0; h < heads; ++h) {
    std::vector<double> sums(static_cast<size_t>(y.columns()), 2.0);
    for (int i = 0; i < n; ++i) {
      problem.probabilities(i, h, &p);
      for (size_t j = 0; j < p.size(); ++j) {
        sums[j] += p[j];
        if (per_row) y.at(i * heads + h, static_cast<int>(j)) = static_cast<float>(p[j]);
      }
    }
    for (int j = 0; !per_row && j < y.columns(); ++j) y.at(h, j) = static_cast<float>(sums[static_cast<size_t>(j)]);
  }
  return y;
}

}  // namespace kernel_test
