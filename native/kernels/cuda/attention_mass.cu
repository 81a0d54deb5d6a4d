// The attention mass of a prompt's keys, once the lse of every query row is known: a block takes 64 cache rows of one
// KV head, expands their keys once and walks over the tiles of query rows that may see them, ascending, scoring them
// again on the tensor cores (a third of the work of attention itself). Sums stay in registers and are added in a fixed
// order: no atomics.
#include "kernels/cuda/attention_prefill.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kKeys = kBlockRows;

// sum += the probabilities of a warp's 16 rows.
__device__ __forceinline__ void add_tile(const HeadShape& shape, const HeadView& head, int row, int from,
                                         const float* bias, const float s[][4], float sum[][2]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int at = row + lane / 4 + 8 * r;
    const Range range = row_range(shape, head, at);
    const float lse = range.end > range.first ? head.scratch[at] : -INFINITY;
#pragma unroll
    for (int n = 0; n < kKeys / 8; n++) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const int key = 8 * n + lane % 4 * 2 + e, j = from + key;
        const bool seen = j >= range.first && j < range.end && lse > -INFINITY;
        if (seen) sum[n][e] += __expf(fmaf(s[n][2 * r + e], shape.scale, bias[key]) - lse);
      }
    }
  }
}

}  // namespace

__global__ void attention_mass(PrefillCall call) {
  SHARED_MEMORY(RowAt, rows);  // [kKeys]
  const HeadShape& shape = call.shape;
  const MassTile task = call.masses[blockIdx.x];
  const HeadView& head = call.heads[task.head];
  const int d = shape.head_size, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int exist = head.rows - task.from < kKeys ? head.rows - task.from : kKeys;
  float* bias = reinterpret_cast<float*>(rows + kKeys);
  uint16_t* q = reinterpret_cast<uint16_t*>(bias + kKeys);
  uint16_t* k = q + kTileRows * (d + kPadding);
  find_rows(head.keys, task.from, kKeys, head.rows, rows);
  for (int i = threadIdx.x; i < kKeys; i += kTileThreads) {
    bias[i] = head.bias && i < exist ? head.bias[task.from + i] : 0;
  }
  __syncthreads();
  expand_keys<kKeys>(shape, rows, task.from, exist, k);
  float sum[kKeys / 8][2] = {};
  for (int t = 0; t < task.tiles; t++) {
    const PrefillTile tile = call.by_head[task.first_tile + t];
    if (tile.from >= task.from + kKeys || tile.to <= task.from) continue;
    __syncthreads();
    load_tile_queries(shape, head, tile.row, q);
    __syncthreads();
    float s[kKeys / 8][4];
    score_tile<kKeys>(q, k, d, s);
    add_tile(shape, head, tile.row + 16 * warp, task.from, bias, s, sum);
  }
  float* parts = reinterpret_cast<float*>(rows);  // [4][kKeys]
  __syncthreads();
#pragma unroll
  for (int n = 0; n < kKeys / 8; n++) {
#pragma unroll
    for (int e = 0; e < 2; e++) {
      float x = sum[n][e];
      for (int step = 4; step < 32; step *= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
      if (lane < 4) parts[warp * kKeys + 8 * n + 2 * lane + e] = x;
    }
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) >= exist) return;
  const float* part = parts + threadIdx.x;
  const float all = ((part[0] + part[kKeys]) + part[2 * kKeys]) + part[3 * kKeys];
  head.mass[task.from + threadIdx.x] += all / static_cast<float>(shape.group);
}

void add_prefill_mass(const PrefillCall& call, Stream stream) {
  const size_t bytes = tile_bytes(call.shape.head_size, kKeys, false);
  allow_shared(attention_mass, bytes);
  LAUNCH(attention_mass, call.mass_count, kTileThreads, bytes, stream, call);
}

}  // namespace tokensieve::kernels::cuda
