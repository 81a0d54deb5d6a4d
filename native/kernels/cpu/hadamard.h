// The matrix of 16 m is that of m over blocks times that of 16 within: butterflies of whole vectors first, then every
// vector as a sum of its 16 broadcast numbers times rows of signs, which needs no shuffle of any instruction set.
#pragma once

#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

struct Signs {
  float row[16][16];
  constexpr Signs() : row() {
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 16; ++j) {
        int odd = 0;
        for (int bit = 1; bit < 16; bit *= 2) odd ^= (i & j & bit) != 0;
        row[i][j] = odd ? -1.f : 1.f;
      }
    }
  }
};
alignas(64) constexpr Signs kSigns;

// Pairs of vectors that are `step` numbers apart.
TS_INLINE void butterflies(float* x, int size, int step) {
  for (int block = 0; block < size; block += 2 * step) {
    for (int i = block; i < block + step; i += 16) {
      const F a = load(x + i), b = load(x + i + step);
      store(x + i, add(a, b));
      store(x + i + step, sub(a, b));
    }
  }
}

// n vectors one after the other: a row of signs is loaded once for all.
template <int n>
TS_INLINE void within(float* x, F scale) {
  F sum[n];
  TS_UNROLL for (int i = 0; i < n; ++i) sum[i] = zero();
  TS_UNROLL for (int j = 0; j < 16; ++j) {
    const F signs = load(kSigns.row[j]);
    TS_UNROLL for (int i = 0; i < n; ++i) sum[i] = fma(signs, set1(x[16 * i + j]), sum[i]);
  }
  TS_UNROLL for (int i = 0; i < n; ++i) store(x + 16 * i, mul(sum[i], scale));
}

// x [size] -> scale times its transform; size: 16, 32, 64, ...
TS_INLINE void transform(float* x, int size, F scale) {
  for (int step = 16; step < size; step *= 2) butterflies(x, size, step);
  int i = 0;
  for (; i + 64 <= size; i += 64) within<4>(x + i, scale);
  for (; i < size; i += 16) within<1>(x + i, scale);
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
