// Rows of up to 512 numbers (heads) take a warp each, longer ones a block. Each is read twice, the second time from L1:
// bound by the bandwidth of L2, where activations are.
#include "kernels/cuda/reduce.h"
#include "kernels/rms_norm.h"

namespace tokensieve::kernels::cuda {

struct RmsRows {
  const float* x;
  size_t ldx;
  int n, groups, d;
  const float* weight;
  float eps;
  const float* add;
  float* y;
  size_t ldy;
};

template <int kWarps>
__global__ void __launch_bounds__(kRowThreads) normalize_rms(RmsRows p) {
  SHARED_MEMORY(float, scratch);
  constexpr unsigned kThreads = kWarps * 32;
  const size_t index = static_cast<size_t>(blockIdx.x) * (kRowThreads / kThreads) + threadIdx.x / kThreads;
  const size_t groups = static_cast<size_t>(p.groups), t = index / groups, g = index % groups;
  if (t >= static_cast<size_t>(p.n)) return;
  const float* x = p.x + t * p.ldx + g * static_cast<size_t>(p.d);
  const size_t to = t * p.ldy + g * static_cast<size_t>(p.d);
  const int first = static_cast<int>(threadIdx.x % kThreads);
  float squares = 0;
  for (int i = first; i < p.d; i += kThreads) squares = fmaf(x[i], x[i], squares);
  squares = row_sum<kWarps>(squares, scratch);
  const float factor = 1 / sqrtf(squares / static_cast<float>(p.d) + p.eps);
  for (int i = first; i < p.d; i += kThreads) {
    float normed = x[i] * factor;
    if (p.weight) normed *= p.weight[i];
    p.y[to + i] = p.add ? p.add[to + i] + normed : normed;
  }
}

void rms_norm(const float* x, size_t ldx, int n, int groups, int d, const float* weight, float eps, const float* add,
              float* y, size_t ldy, Team& team) noexcept {
  const size_t rows = static_cast<size_t>(n) * static_cast<size_t>(groups);
  if (rows == 0) return;
  const Stream stream = stream_of(team);
  const RmsRows p{x, ldx, n, groups, d, weight, eps, add, y, ldy};
  if (d <= kShortRow) {
    LAUNCH((normalize_rms<1>), row_blocks<1>(rows), kRowThreads, 0, stream, p);
  } else {
    LAUNCH((normalize_rms<8>), row_blocks<8>(rows), kRowThreads, 8 * sizeof(float), stream, p);
  }
}

}  // namespace tokensieve::kernels::cuda
