// Softmax: a block a row, three passes over it: maximum, sum, result. A thread adds every 1024th number in four sums,
// blocks add theirs in a fixed tree: at 300,000 numbers no sum has more than 74 terms before the tree.
//
// Limit: memory where there are many rows. One row of a vocabulary is the work of one SM: about 10 us a megabyte and pass
// (the second and third come from the second-level cache).
#include "kernels/softmax.h"

#include "device.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kWarps = 32;
constexpr int kShort = 4096;  // rows up to here get 8 warps

// f over all threads of the block; `shared` [32] may be used again after the next barrier.
template <class F>
__device__ __forceinline__ float reduce(float x, float* shared, F&& f) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (int step = 16; step > 0; step /= 2) x = f(x, __shfl_xor_sync(0xffffffffu, x, step));
  __syncthreads();
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = shared[0];
  for (int w = 1; w < warps; w++) x = f(x, shared[w]);
  return x;
}

}  // namespace

__global__ void softmax_rows(const float* x, size_t ldx, int d, float* y, size_t ldy, float* lse) {
  SHARED_MEMORY(float, shared);  // [kWarps]
  const float* row = x + blockIdx.x * ldx;
  float top = -INFINITY, sum[4] = {0, 0, 0, 0};
  for (int i = threadIdx.x; i < d; i += blockDim.x) top = fmaxf(top, row[i]);
  top = reduce(top, shared, [](float a, float b) { return fmaxf(a, b); });
  const bool some = top > -INFINITY;
  for (int i = threadIdx.x, k = 0; some && i < d; i += blockDim.x, k++) {
    const float p = expf(row[i] - top);
#pragma unroll
    for (int j = 0; j < 4; j++) sum[j] += k % 4 == j ? p : 0.0f;
  }
  const float all = reduce((sum[0] + sum[1]) + (sum[2] + sum[3]), shared, [](float a, float b) { return a + b; });
  if (lse && threadIdx.x == 0) lse[blockIdx.x] = some ? top + logf(all) : -INFINITY;
  for (int i = threadIdx.x; y && i < d; i += blockDim.x) {
    y[blockIdx.x * ldy + i] = some ? expf(row[i] - top) / all : 0.0f;
  }
}

void softmax(const float* x, size_t ldx, int n, int d, float* y, size_t ldy, float* lse, Team& team) noexcept {
  if (n == 0) return;
  const int threads = d <= kShort ? 256 : 32 * kWarps;
  LAUNCH(softmax_rows, n, threads, sizeof(float) * kWarps, stream_of(team), x, ldx, d, y, ldy, lse);
}

}  // namespace tokensieve::kernels::cuda
