// Kernel activate: y[t][i] = act(x[t][i]) for n rows of d numbers, the activations of gate.h with their precision.
// y may be x where ldx == ldy.
#pragma once

#include <cstddef>

#include "core/pool.h"
#include "kernels/gate.h"

namespace tokensieve::kernels {

using Activate = void (*)(Activation act, const float* x, size_t ldx, int n, int d, float* y, size_t ldy,
                          Team& team) noexcept;

}  // namespace tokensieve::kernels
