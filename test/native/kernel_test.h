// What every kernel test needs: the backends to test, numbers at any alignment, and the loop over teams.
#pragma once

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "kernels/backend.h"

namespace kernel_test {

using tokensieve::Team;
using tokensieve::kernels::Backend;

inline Team alone(1);  // for calls that are too small to share

// The one that TOKENSIEVE_ISA names, else all that run here; the reference is among them, so it is held to the same.
inline std::vector<const Backend*> backends() {
  const tokensieve::kernels::BackendList& list = tokensieve::kernels::runnable_backends();
  const char* const only = std::getenv("TOKENSIEVE_ISA");
  std::vector<const Backend*> found;
  for (int i = 0; i < list.count; ++i) {
    if (!only || std::strcmp(only, list.items[i]->name) == 0) found.push_back(list.items[i]);
  }
  if (only && std::strncmp(only, "cuda", 4) == 0) found.push_back(tokensieve::kernels::backend_by_name(only));
  CHECK(!found.empty() && found.back());
  return found;
}

// Every length around the 16 lanes and their multiples, and some long ones.
inline std::vector<int> lengths() {
  std::vector<int> all;
  for (int n = 1; n <= 70; ++n) all.push_back(n);
  for (const int n : {127, 128, 129, 576, 1000, 2305}) all.push_back(n);
  return all;
}

// Rows with a guard after every row and a start that is not aligned to anything but a float.
class Matrix {
 public:
  Matrix(int rows, int columns, int padding = 3, int shift = 1)
      : rows_(rows),
        columns_(columns),
        ld_(static_cast<size_t>(columns + padding)),
        shift_(static_cast<size_t>(shift)),
        all_(static_cast<size_t>(rows) * ld_ + shift_, kGuard) {}

  static Matrix normal(int rows, int columns, check::Random& random, float scale = 1) {
    Matrix m(rows, columns);
    for (int t = 0; t < rows; ++t) {
      for (int i = 0; i < columns; ++i) m.at(t, i) = scale * random.normal();
    }
    return m;
  }

  float* data() { return all_.data() + shift_; }
  const float* data() const { return all_.data() + shift_; }
  float& at(int row, int column) { return data()[static_cast<size_t>(row) * ld_ + static_cast<size_t>(column)]; }
  const float& at(int row, int column) const {
    return data()[static_cast<size_t>(row) * ld_ + static_cast<size_t>(column)];
  }
  size_t ld() const { return ld_; }
  int rows() const { return rows_; }
  int columns() const { return columns_; }

  // Nothing was written outside the rows.
  bool guards_hold() const {
    for (size_t i = 0; i < shift_; ++i) {
      if (all_[i] != kGuard) return false;
    }
    for (int t = 0; t < rows_; ++t) {
      for (size_t i = static_cast<size_t>(columns_); i < ld_; ++i) {
        if (data()[static_cast<size_t>(t) * ld_ + i] != kGuard) return false;
      }
    }
    return true;
  }
  bool same_bits(const Matrix& other) const {
    return all_.size() == other.all_.size() &&
           std::memcmp(all_.data(), other.all_.data(), all_.size() * sizeof(float)) == 0;
  }

 private:
  static constexpr float kGuard = -12345.5f;
  int rows_, columns_;
  size_t ld_, shift_;
  std::vector<float> all_;
};

// |got - want| <= relative * |want| + absolute, everywhere; one check, which names the worst place.
inline void check_close(const Matrix& got, const Matrix& want, double relative, double absolute,
                        const std::string& what) {
  double worst = 0;
  std::string where;
  for (int t = 0; t < want.rows(); ++t) {
    for (int i = 0; i < want.columns(); ++i) {
      const double g = got.at(t, i), w = want.at(t, i), allowed = relative * std::fabs(w) + absolute;
      const double excess = g == w ? 0 : std::isnan(g) || std::isnan(w) ? 1e30 : std::fabs(g - w) / allowed;
      if (excess <= worst) continue;
      worst = excess;
      where = " [" + std::to_string(t) + "][" + std::to_string(i) + "] is " + check::number(g) + ", expected " +
              check::number(w);
    }
  }
  check::expect(worst <= 1 && got.guards_hold(), __FILE__, __LINE__,
                what + (worst <= 1 ? ": wrote outside its rows" : where));
}

// f(team) -> Matrix must give the same bits for teams of 1 to 4.
template <class F>
void check_teams(const std::string& what, F&& f) {
  Team alone(1);
  const Matrix want = f(alone);
  for (int threads = 2; threads <= 4; ++threads) {
    Team team(threads);
    check::expect(f(team).same_bits(want), __FILE__, __LINE__,
                  what + ": a team of " + std::to_string(threads) + " differs");
  }
}

}  // namespace kernel_test
