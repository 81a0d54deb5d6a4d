// Rows as in rms_norm.cu. The mean, rounded to f32, is a first guess: what is left of it after subtraction is summed
// beside the squares and taken off both, so that a mean far from zero costs no digits.
#include "kernels/cuda/reduce.h"
#include "kernels/layer_norm.h"

namespace tokensieve::kernels::cuda {

struct NormRows {
  const float* x;
  size_t ldx;
  int n, d;
  const float *weight, *bias;
  float eps;
  float* y;
  size_t ldy;
};

template <int kWarps>
__global__ void __launch_bounds__(kRowThreads) normalize(NormRows p) {
  SHARED_MEMORY(float, scratch);
  constexpr unsigned kThreads = kWarps * 32;
  const size_t t = static_cast<size_t>(blockIdx.x) * (kRowThreads / kThreads) + threadIdx.x / kThreads;
  if (t >= static_cast<size_t>(p.n)) return;
  const float* x = p.x + t * p.ldx;
  float* const y = p.y + t * p.ldy;
  const int first = static_cast<int>(threadIdx.x % kThreads);
  const float d = static_cast<float>(p.d);
  float sum = 0, rest = 0, squares = 0;
  for (int i = first; i < p.d; i += kThreads) sum += x[i];
  const float guess = row_sum<kWarps>(sum, scratch) / d;
  for (int i = first; i < p.d; i += kThreads) {
    const float centred = x[i] - guess;
    rest += centred;
    squares = fmaf(centred, centred, squares);
  }
  rest = row_sum<kWarps>(rest, scratch) / d;
  squares = row_sum<kWarps>(squares, scratch) / d;
  const float factor = 1 / sqrtf(fmaf(-rest, rest, squares) + p.eps);
  for (int i = first; i < p.d; i += kThreads) {
    y[i] = fmaf((x[i] - guess - rest) * factor, p.weight[i], p.bias[i]);
  }
}

void layer_norm(const float* x, size_t ldx, int n, int d, const float* weight, const float* bias, float eps, float* y,
                size_t ldy, Team& team) noexcept {
  if (n == 0) return;
  const Stream stream = stream_of(team);
  const size_t rows = static_cast<size_t>(n);
  const NormRows p{x, ldx, n, d, weight, bias, eps, y, ldy};
  if (d <= kShortRow) {
    LAUNCH((normalize<1>), row_blocks<1>(rows), kRowThreads, 0, stream, p);
  } else {
    LAUNCH((normalize<8>), row_blocks<8>(rows), kRowThreads, 8 * sizeof(float), stream, p);
  }
}

}  // namespace tokensieve::kernels::cuda
