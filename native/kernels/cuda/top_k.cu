// Top k: one block finds the k-th largest by four histograms of 8 bits and collects what is above it in order of the
// indices, a warp a run of numbers (ballots give the places, so nothing depends on timing); for the order by value,
// pairs of key and index are sorted by bitonic passes over all blocks, in shared memory below kTile pairs.
//
// Limit: one SM reads the row six times, about 10 us a megabyte and pass; the row stays in the second-level cache.
// Sorting k pairs: log2(k / kTile)^2 / 2 passes of 16 bytes a pair, one for k <= kTile.
#include "kernels/top_k.h"

#include "core/pool.h"
#include "device.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kThreads = 1024, kWarps = kThreads / 32;
constexpr int kTile = 2048, kSortThreads = kTile / 2;
constexpr int kStepThreads = 256;

// Larger numbers have larger keys; NaN as -infinity, -0 as 0.
__device__ __forceinline__ uint32_t key_of(float x) {
  if (x != x) x = -INFINITY;
  const uint32_t bits = static_cast<uint32_t>(__float_as_int(x == 0 ? 0.0f : x));
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Narrows `prefix`, the upper bits of the k-th largest key, by 8 bits; returns how many of the k are among the keys that
// begin with it. histogram [256], then two numbers to tell all threads.
__device__ __forceinline__ int narrow(const float* x, int n, int k, int shift, uint32_t* prefix, int* histogram) {
  for (int i = threadIdx.x; i < 256; i += kThreads) histogram[i] = 0;
  __syncthreads();
  const uint32_t high = shift == 24 ? 0 : ~0u << (shift + 8);
  for (int i = threadIdx.x; i < n; i += kThreads) {
    const uint32_t key = key_of(x[i]);
    if ((key & high) == *prefix) atomicAdd(histogram + (key >> shift & 255), 1);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int digit = 255;
    for (; histogram[digit] < k; digit--) k -= histogram[digit];
    histogram[256] = digit;
    histogram[257] = k;
  }
  __syncthreads();
  *prefix |= static_cast<uint32_t>(histogram[256]) << shift;
  const int rest = histogram[257];
  __syncthreads();
  return rest;
}

// The pair that sorts first is the largest number, of equals the one with the lowest index.
__device__ __forceinline__ uint64_t pair_of(uint32_t key, int index) {
  return static_cast<uint64_t>(~key) << 32 | static_cast<uint32_t>(index);
}

__device__ __forceinline__ void order_two(uint64_t* a, uint64_t* b) {
  const uint64_t x = *a, y = *b;
  if (x <= y) return;
  *a = y;
  *b = x;
}

// Partner of the i-th of the lower elements: a flip mirrors a run of 2 * step, a pass of `step` shifts. All runs ascend,
// so an element beyond the last would be the largest and is left out.
__device__ __forceinline__ void sort_step(uint64_t* pairs, int n, int i, int step, bool flip) {
  const int low = i / step * 2 * step + i % step;
  const int high = flip ? low / (2 * step) * 2 * step + 2 * step - 1 - i % step : low + step;
  if (high < n) order_two(pairs + low, pairs + high);
}

}  // namespace

// The k largest in the order of their indices: into out, or as pairs where that is not null.
__global__ void select_largest(const float* x, int n, int k, int32_t* out, uint64_t* pairs) {
  SHARED_MEMORY(int, shared);  // histogram [258], then greater [kWarps], equal [kWarps]
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  uint32_t least = 0;
  int ties = k;
  for (int shift = 24; shift >= 0; shift -= 8) ties = narrow(x, n, ties, shift, &least, shared);
  const int run = ((n + kWarps - 1) / kWarps + 31) / 32 * 32, from = warp * run;
  int *greater = shared + 258, *equal = greater + kWarps;
  int above = 0, same = 0;
  for (int i = from + lane; i < from + run && i < n; i += 32) {
    const uint32_t key = key_of(x[i]);
    above += key > least;
    same += key == least;
  }
  for (int step = 16; step > 0; step /= 2) {
    above += __shfl_xor_sync(0xffffffffu, above, step);
    same += __shfl_xor_sync(0xffffffffu, same, step);
  }
  if (lane == 0) greater[warp] = above, equal[warp] = same;
  __syncthreads();
  int place = 0, seen = 0;  // taken and equal ones of the runs before
  for (int w = 0; w < warp; w++) place += greater[w], seen += equal[w];
  place += seen < ties ? seen : ties;
  const uint32_t below = (1u << lane) - 1;
  for (int first = from; first < from + run && first < n; first += 32) {
    const int i = first + lane;
    const uint32_t key = i < n ? key_of(x[i]) : 0;
    const unsigned equals = __ballot_sync(0xffffffffu, i < n && key == least);
    const bool taken = i < n && (key > least || (key == least && seen + __popc(equals & below) < ties));
    const unsigned all = __ballot_sync(0xffffffffu, taken);
    const int to = place + __popc(all & below);
    if (taken && pairs) pairs[to] = pair_of(key, i);
    if (taken && !pairs) out[to] = i;
    place += __popc(all);
    seen += __popc(equals);
  }
}

// Tiles of kTile pairs: sorted from nothing, or (whole false) from runs that steps down to kTile have ordered.
__global__ void sort_tiles(uint64_t* pairs, int n, bool whole) {
  SHARED_MEMORY(uint64_t, tile);
  const int from = blockIdx.x * kTile, count = n - from < kTile ? n - from : kTile;
  for (int i = threadIdx.x; i < count; i += kSortThreads) tile[i] = pairs[from + i];
  for (int run = whole ? 1 : kTile / 2; run < kTile; run *= 2) {
    for (int step = run; step > 0; step /= 2) {
      __syncthreads();
      sort_step(tile, count, threadIdx.x, step, whole && step == run);
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += kSortThreads) pairs[from + i] = tile[i];
}

__global__ void sort_pairs(uint64_t* pairs, int n, int step, bool flip) {
  const int i = blockIdx.x * kStepThreads + threadIdx.x;
  sort_step(pairs, n, i, step, flip);
}

__global__ void take_indices(const uint64_t* pairs, int k, int32_t* out) {
  const int i = blockIdx.x * kStepThreads + threadIdx.x;
  if (i < k) out[i] = static_cast<int32_t>(pairs[i]);
}

// The first of the largest.
__global__ void find_largest(const float* x, int n, int32_t* out) {
  SHARED_MEMORY(uint64_t, best);  // [kThreads]
  uint64_t mine = ~0ull;
  for (int i = threadIdx.x; i < n; i += kThreads) {
    const uint64_t pair = pair_of(key_of(x[i]), i);
    mine = pair < mine ? pair : mine;
  }
  best[threadIdx.x] = mine;
  for (int step = kThreads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < step) {
      const uint64_t other = best[threadIdx.x + step];
      if (other < best[threadIdx.x]) best[threadIdx.x] = other;
    }
  }
  if (threadIdx.x == 0) *out = static_cast<int32_t>(best[0]);
}

namespace {

void sort_all(uint64_t* pairs, int k, Stream stream) {
  const int tiles = (k + kTile - 1) / kTile, bytes = kTile * sizeof(uint64_t);
  LAUNCH(sort_tiles, tiles, kSortThreads, bytes, stream, pairs, k, true);
  for (int run = kTile; run < k; run *= 2) {
    const int blocks = (tiles + 1) * (kTile / 2 / kStepThreads);  // a lower element a thread
    for (int step = run; step >= kTile; step /= 2) {
      LAUNCH(sort_pairs, blocks, kStepThreads, 0, stream, pairs, k, step, step == run);
    }
    LAUNCH(sort_tiles, tiles, kSortThreads, bytes, stream, pairs, k, false);
  }
}

}  // namespace

void top_k(const float* x, int n, int k, Order order, int32_t* out, void* scratch, Team& team) noexcept {
  if (k <= 0) return;
  const Stream stream = stream_of(team);
  if (k == 1) {
    LAUNCH(find_largest, 1, kThreads, sizeof(uint64_t) * kThreads, stream, x, n, out);
    return;
  }
  uint64_t* const pairs = order == Order::value ? static_cast<uint64_t*>(scratch) : nullptr;
  LAUNCH(select_largest, 1, kThreads, sizeof(int) * (258 + 2 * kWarps), stream, x, n, k, out, pairs);
  if (!pairs) return;
  sort_all(pairs, k, stream);
  LAUNCH(take_indices, (k + kStepThreads - 1) / kStepThreads, kStepThreads, 0, stream, pairs, k, out);
}

}  // namespace tokensieve::kernels::cuda
