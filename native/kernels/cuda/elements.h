// Activations of rows, and gates: a block 1024 numbers of a row, four a thread, side by side over the threads. Bound by
// the bandwidth of L2, where activations are: 8 or 12 bytes and some 40 instructions a number.
#pragma once

#include "kernels/cuda/activation.h"

namespace tokensieve::kernels::cuda {

constexpr int kElementThreads = 256, kElements = 1024;

// gated: times what lies d further.
template <Activation act, bool gated>
__global__ void __launch_bounds__(kElementThreads)
    apply_elements(const float* x, size_t ldx, int n, int d, float* y, size_t ldy) {
  const int first = static_cast<int>(blockIdx.x * kElements + threadIdx.x);
  for (int t = static_cast<int>(blockIdx.y); t < n; t += static_cast<int>(gridDim.y)) {
    const float* from = x + ldx * static_cast<size_t>(t);
    float* const to = y + ldy * static_cast<size_t>(t);
#pragma unroll
    for (int i = first; i < first + kElements; i += kElementThreads) {
      if (i < d) to[i] = activated<act>(from[i]) * (gated ? from[d + i] : 1.0f);
    }
  }
}

template <bool gated>
void launch_elements(Activation act, const float* x, size_t ldx, int n, int d, float* y, size_t ldy,
                     Team& team) noexcept {
  if (n == 0 || d == 0) return;
  const dim3 grid(static_cast<unsigned>(d + kElements - 1) / kElements, static_cast<unsigned>(n < 65535 ? n : 65535));
  with_activation(act, [&](auto a) {
    LAUNCH((apply_elements<decltype(a)::value, gated>), grid, kElementThreads, 0, stream_of(team), x, ldx, n, d, y,
           ldy);
  });
}

}  // namespace tokensieve::kernels::cuda
