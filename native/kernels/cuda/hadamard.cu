// Hadamard: a warp a head (two heads of 16), lane l holds elements l, l + 32, ...: the five lower steps of the butterfly
// go through shuffles, the others stay in registers. Limit: memory, each number read and written once.
#include "kernels/hadamard.h"

#include <cmath>

#include "device.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kThreads = 256;

}  // namespace

// kEach: elements a lane.
template <int kEach>
__global__ void transform_heads(float* x, size_t ldx, int n, int heads, int head_size, float scale) {
  const int lane = threadIdx.x % 32, width = head_size < 32 ? head_size : 32;
  const size_t unit = (static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x) / width, t = unit / heads;
  const bool exists = t < static_cast<size_t>(n);
  float* const head = x + (exists ? t * ldx + unit % heads * head_size + lane % width : 0);
  float y[kEach];
#pragma unroll
  for (int i = 0; i < kEach; i++) y[i] = exists ? head[32 * i] : 0.0f;
  for (int step = 1; step < width; step *= 2) {
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      const float other = __shfl_xor_sync(0xffffffffu, y[i], step);
      y[i] = lane & step ? other - y[i] : y[i] + other;
    }
  }
#pragma unroll
  for (int step = 1; step < kEach; step *= 2) {
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      if (i & step) continue;
      const float a = y[i], b = y[i + step];
      y[i] = a + b;
      y[i + step] = a - b;
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; i++) {
    if (exists) head[32 * i] = y[i] * scale;
  }
}

void hadamard(float* x, size_t ldx, int n, int heads, int head_size, Team& team) noexcept {
  const int width = head_size < 32 ? head_size : 32, a_block = kThreads / width;
  const int blocks = static_cast<int>((static_cast<size_t>(n) * heads + a_block - 1) / a_block);
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head_size)));
  const Stream stream = stream_of(team);
  if (blocks == 0) return;
  switch (head_size) {
    case 64: LAUNCH((transform_heads<2>), blocks, kThreads, 0, stream, x, ldx, n, heads, head_size, scale); break;
    case 128: LAUNCH((transform_heads<4>), blocks, kThreads, 0, stream, x, ldx, n, heads, head_size, scale); break;
    case 256: LAUNCH((transform_heads<8>), blocks, kThreads, 0, stream, x, ldx, n, heads, head_size, scale); break;
    default: LAUNCH((transform_heads<1>), blocks, kThreads, 0, stream, x, ldx, n, heads, head_size, scale);
  }
}

}  // namespace tokensieve::kernels::cuda
