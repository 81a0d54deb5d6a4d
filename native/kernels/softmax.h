// Kernel softmax: y[t] = exp(x[t] - lse(x[t])) for n rows of d numbers, lse[t] (may be null) = log(sum(exp(x[t]))); y may be null (only lse) or x.
// -infinity is allowed (probability 0); a row of only -infinity gives zeros and lse = -infinity. Maximum is subtracted first; f32 with compensated or pairwise sums:
// relative error <= 1e-5 for d <= 300,000.
#pragma once

#include <cstddef>

#include "core/pool.h"

namespace tokensieve::kernels {

using Softmax = void (*)(const float* x, size_t ldx, int n, int d, float* y, size_t ldy, float* lse,
                         Team& team) noexcept;

}  // namespace tokensieve::kernels
