// Rope: a thread a pair. Limit: memory; neighbouring threads take neighbouring pairs, so both halves of a head are read
// and written in whole lines. 12 bytes of tables and 16 of rows a pair; all heads of a row find its angles in the cache.
#include "kernels/rope.h"

#include "device.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kThreads = 256;

}  // namespace

__global__ void rotate_heads(float* x, size_t ldx, int n, int heads, int head_size, int half, const float* cos,
                             const float* sin) {
  const size_t at = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  const size_t width = static_cast<size_t>(heads) * half, t = at / width, pair = at % width;
  if (t >= static_cast<size_t>(n)) return;
  const size_t i = pair % half;
  const float c = cos[t * half + i], s = sin[t * half + i];
  float* const head = x + t * ldx + pair / half * head_size + i;
  const float a = head[0], b = head[half];
  head[0] = a * c - b * s;
  head[half] = b * c + a * s;
}

void rope(float* x, size_t ldx, int n, int heads, int head_size, int rotated, const float* cos, const float* sin,
          Team& team) noexcept {
  const int half = rotated / 2;
  const size_t pairs = static_cast<size_t>(n) * heads * half;
  if (pairs == 0) return;
  const int blocks = static_cast<int>((pairs + kThreads - 1) / kThreads);
  LAUNCH(rotate_heads, blocks, kThreads, 0, stream_of(team), x, ldx, n, heads, head_size, half, cos, sin);
}

}  // namespace tokensieve::kernels::cuda
