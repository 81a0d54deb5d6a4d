// A row of kernel rms_norm (kernels/rms_norm.h).
#pragma once

#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

// Four sums of 16 lanes each, so that even a long row adds few terms to any one of them.
TS_INLINE float square_sum(const float* x, int d) {
  F sums[4] = {zero(), zero(), zero(), zero()};
  int i = 0;
  for (; i + 64 <= d; i += 64) {
    TS_UNROLL for (int part = 0; part < 4; ++part) {
      const F v = load(x + i + 16 * part);
      sums[part] = fma(v, v, sums[part]);
    }
  }
  for (int part = 0; i < d; i += 16, ++part) {
    const F v = d - i >= 16 ? load(x + i) : load_part(x + i, d - i);
    sums[part] = fma(v, v, sums[part]);
  }
  return reduce_add(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

// What kernel rms_norm multiplies a row with.
TS_INLINE F norm_factor(const float* x, int d, float eps) {
  const double mean = static_cast<double>(square_sum(x, d)) / d;
  return set1(static_cast<float>(1 / __builtin_sqrt(mean + eps)));
}

// y = sum + x * factor * weight, d numbers
template <bool kWeight, bool kAdd>
void scale_norm(const float* x, int d, const float* weight, F factor, const float* sum, float* y) {
  int i = 0;
  for (; i + 16 <= d; i += 16) {
    F v = mul(load(x + i), factor);
    if (kWeight) v = mul(v, load(weight + i));
    if (kAdd) v = add(load(sum + i), v);
    store(y + i, v);
  }
  if (const int rest = d - i) {
    F v = mul(load_part(x + i, rest), factor);
    if (kWeight) v = mul(v, load_part(weight + i, rest));
    if (kAdd) v = add(load_part(sum + i, rest), v);
    store_part(y + i, v, rest);
  }
}

}  // namespace

}  // namespace tokensieve::kernels::TS_ISA
