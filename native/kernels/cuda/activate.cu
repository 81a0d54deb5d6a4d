// As gate.cu, of one row.
#include "kernels/activate.h"

#include "kernels/cuda/activation.h"

namespace tokensieve::kernels::cuda {

template <Activation act>
__global__ void __launch_bounds__(kElementThreads)
    apply_activation(const float* x, size_t ldx, int n, int d, float* y, size_t ldy) {
  const int first = static_cast<int>(blockIdx.x * kElements + threadIdx.x);
  for (int t = static_cast<int>(blockIdx.y); t < n; t += static_cast<int>(gridDim.y)) {
    const float* from = x + ldx * static_cast<size_t>(t);
    float* const to = y + ldy * static_cast<size_t>(t);
#pragma unroll
    for (int i = first; i < first + kElements; i += kElementThreads) {
      if (i < d) to[i] = activated<act>(from[i]);
    }
  }
}

void activate(Activation act, const float* x, size_t ldx, int n, int d, float* y, size_t ldy, Team& team) noexcept {
  if (n == 0 || d == 0) return;
  const Stream stream = stream_of(team);
  with_activation(act, [&](auto a) {
    LAUNCH((apply_activation<decltype(a)::value>), element_grid(n, d), kElementThreads, 0, stream, x, ldx, n, d, y,
           ldy);
  });
}

}  // namespace tokensieve::kernels::cuda
