// The Hadamard matrix of 16 m is that of m over blocks, butterflies of whole vectors, times that of 16 within.
#pragma once

#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

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

// x [size] -> scale times its transform; size: 16, 32, 64, ...
TS_INLINE void transform(float* x, int size, F scale) {
  for (int step = 16; step < size; step *= 2) butterflies(x, size, step);
  for (int i = 0; i < size; i += 16) store(x + i, mul(hadamard16(load(x + i)), scale));
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
