// Kernel gate: y[t][i] = act(x[t][i]) * x[t][d + i], i < d: the gated half of an MLP, gate rows and up rows side by side.
// silu: a / (1 + exp(-a)). gelu_tanh: a/2 (1 + tanh(sqrt(2/pi) (a + 0.044715 a^3))). gelu: a/2 (1 + erf(a / sqrt 2)).
// quick_gelu: a / (1 + exp(-1.702 a)).
// x [n][ldx >= 2 d], y [n][ldy >= d]; y may be x where ldx == ldy. Relative error <= 2e-6 against double (|a| <= 80; no NaN for any finite input).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/pool.h"

namespace tokensieve::kernels {

enum class Activation : uint8_t { silu, gelu_tanh, gelu, quick_gelu };

using Gate = void (*)(Activation act, const float* x, size_t ldx, int n, int d, float* y, size_t ldy,
                      Team& team) noexcept;

}  // namespace tokensieve::kernels
