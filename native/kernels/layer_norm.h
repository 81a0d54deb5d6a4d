// Kernel layer_norm: y[t] = (x[t] - mean) / sqrt(variance + eps) * weight + bias for n rows of d numbers; the variance is
// the mean of (x - mean)^2, f32 throughout. weight, bias [d]. Row t lies at x + t * ldx, in y with ldy; y may be x
// (ldx == ldy). d >= 1, any. 2e-6 of the largest |y| of a row against double, where the mean is no more than a thousand
// times the deviation.
#pragma once

#include <cstddef>

#include "core/pool.h"

namespace tokensieve::kernels {

using LayerNorm = void (*)(const float* x, size_t ldx, int n, int d, const float* weight, const float* bias, float eps,
                           float* y, size_t ldy, Team& team) noexcept;

}  // namespace tokensieve::kernels
