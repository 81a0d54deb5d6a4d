// Kernel rms_norm: y = x / sqrt(mean(x^2) + eps) * weight, for each of n * groups vectors of d numbers; f32 throughout.
// The square sum is exact to f32 whatever the size of the residual (values up to 1e6 occur: no f16 anywhere).
// Row t, group g lies at x + t * ldx + g * d; the same in y with ldy. y may be x (ldx == ldy). d >= 1, any.
// weight [d], or null for 1. add (may be null, layout of y with ldy): y = add + norm(x), for architectures that norm before the residual sum; add may be y.
#pragma once

#include <cstddef>

#include "core/pool.h"

namespace tokensieve::kernels {

using RmsNorm = void (*)(const float* x, size_t ldx, int n, int groups, int d, const float* weight, float eps,
                         const float* add, float* y, size_t ldy, Team& team) noexcept;

}  // namespace tokensieve::kernels
