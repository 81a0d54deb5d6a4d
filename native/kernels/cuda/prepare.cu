// Activations as the products take them: the values of reference/matmul.cc. Bound by latency: a few megabytes at most,
// in L2.
#include "kernels/cuda/weights.h"
#include "kernels/matmul.h"

namespace tokensieve::kernels::cuda {

// A thread a pair of columns; where the last has no partner, that is 0.
__global__ void __launch_bounds__(256) prepare_bf16(Prepared p) {
  const int k = static_cast<int>(blockIdx.x * 256 + threadIdx.x) * 2, even = (p.cols + 1) / 2 * 2;
  if (k >= p.cols) return;
  for (int t = static_cast<int>(blockIdx.y); t < p.n; t += static_cast<int>(gridDim.y)) {
    const float* x = p.f32 + p.ld * static_cast<size_t>(t) + k;
    const uint32_t pair = pack_bf16(x[0], k + 1 < p.cols ? x[1] : 0);
    *reinterpret_cast<uint32_t*>(p.bf16 + static_cast<size_t>(even) * static_cast<size_t>(t) + k) = pair;
    if (!p.rest || p.q) continue;
    float* rest = p.rest + static_cast<size_t>(p.cols) * static_cast<size_t>(t) + k;
    rest[0] = x[0] - low_bf16(pair);
    if (k + 1 < p.cols) rest[1] = x[1] - high_bf16(pair);
  }
}

// A warp a block of 32. Blocks with no number of at least 1e-30 count as zero.
__global__ void __launch_bounds__(256) prepare_int8(Prepared p) {
  const int block = static_cast<int>(blockIdx.x * 8 + threadIdx.x / 32), lane = threadIdx.x % 32, blocks = p.cols / 32;
  if (block >= blocks) return;
  for (int t = static_cast<int>(blockIdx.y); t < p.n; t += static_cast<int>(gridDim.y)) {
    const float x = p.f32[p.ld * static_cast<size_t>(t) + block * 32 + lane];
    float largest = fabsf(x);
    for (int away = 16; away > 0; away /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, away));
    const bool zero = largest < 1e-30f;
    const int q = zero ? 0 : __float2int_rn(x * (127 / largest));
    int sum = q;
    for (int away = 8; away > 0; away /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, away);
    const size_t at = static_cast<size_t>(blocks) * static_cast<size_t>(t) + block;
    const float scale = zero ? 0 : largest / 127;
    p.q[at * 32 + lane] = static_cast<int8_t>(q);
    if (p.rest) p.rest[at * 32 + lane] = x - scale * static_cast<float>(q);
    if (lane == 0) p.scale[at] = scale;
    if (lane % 16 == 0) p.sum[2 * at + lane / 16] = static_cast<int16_t>(sum);
  }
}

void prepare(const Prepared& p, Team& team) noexcept {
  if (p.n == 0) return;
  const Stream stream = stream_of(team);
  const unsigned rows = static_cast<unsigned>(p.n < 65535 ? p.n : 65535), pairs = static_cast<unsigned>(p.cols + 1) / 2;
  if (p.bf16) LAUNCH(prepare_bf16, dim3((pairs + 255) / 256, rows), 256, 0, stream, p);
  const unsigned blocks = static_cast<unsigned>(p.cols) / 32;
  if (p.q && blocks > 0) LAUNCH(prepare_int8, dim3((blocks + 7) / 8, rows), 256, 0, stream, p);
}

}  // namespace tokensieve::kernels::cuda
