// Kernel resample: pictures of 8 bits to another size, one axis at a time; every output is a weighted sum of neighbours.
//
//   across: y[r][i][c] = byte(sum_k weight[i][k] x[r][first[i] + k][c]), i < size, for `rows` rows of `width` pixels
//   down:   y[i][b]    = byte(sum_k weight[i][k] x[first[i] + k][b]), i < size, for rows of `bytes` bytes
//   byte(s) = (s + 2^21) >> 22, clamped to 0..255; weights have 22 bits behind the point
//
// Pixels are red, green, blue. Exact: all sums fit 32 bits where the |weights| of an output sum up to less than 2.
// 1 <= count[i] <= reach; outputs read inside the picture. x and y do not overlap.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/pool.h"

namespace tokensieve::kernels {

constexpr int kTapBits = 22;

// Of one axis.
struct Taps {
  int size = 0, reach = 0;
  const int32_t* first = nullptr;  // [size]
  const int32_t* count = nullptr;  // [size]
  const int32_t* weight = nullptr;  // [size][reach]
};

using ResampleAcross = void (*)(const uint8_t* x, int width, int rows, const Taps& taps, uint8_t* y,
                                Team& team) noexcept;
using ResampleDown = void (*)(const uint8_t* x, size_t bytes, const Taps& taps, uint8_t* y, Team& team) noexcept;

}  // namespace tokensieve::kernels
