// What queries to come would give the rows of a cache, from the queries of a call (expected attention, arXiv 2510.00636): their mean and covariance before rotation, turned by
// the mean rotation of the positions ahead.
#pragma once

#include <cstddef>
#include <vector>

namespace tokensieve {

// Sums over the un-rotated queries of one head.
struct QueryStats {
  explicit QueryStats(int size);
  void add(const float* q, size_t ldq, int n) noexcept;  // n rows of `size`

  int size, count = 0;
  std::vector<double> sum;  // [size]
  std::vector<double> squares;  // [size][size], upper triangle of the sum of q qT

 private:
  std::vector<float> part_;  // the same of one call: sum, then squares
};

// Mean cosines and sines of some positions, [rotated / 2] each; pairs are halves (kernels/rope.h).
struct MeanRotation {
  std::vector<double> cos, sin;
};

struct Outlook {
  std::vector<float> mean;  // [size]
  std::vector<float> covariance;  // [size][size]
};

// Zeros where nothing was counted.
Outlook outlook(const QueryStats& stats, const MeanRotation& rotation);

// z[j] = scale k_j . mean + scale^2 / 2 k_j . covariance k_j, for n rows of keys. turned: scratch [size].
void expected_scores(const Outlook& ahead, const float* keys, int n, float scale, float* turned, float* z) noexcept;

}  // namespace tokensieve
