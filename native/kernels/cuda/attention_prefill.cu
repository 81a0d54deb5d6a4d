// Attention for many query rows: a block of 4 warps takes 64 rows of (query row x head of the group) of one KV head and
// walks over tiles of 64 cache rows (32 for heads above 128 channels), with the softmax's state in registers.
//
// Keys and values are expanded to bf16 in shared memory from pages of any type: keys stay as pages have them, channel
// by channel, and values row by row, so that ldmatrix.trans gives both operands of the tensor cores without moving
// anything; pages of 16 bits are copied by 16 bytes. q, K, V and the probabilities are bf16, sums f32.
//
// Limit: a tile of 64 x 64 x 128 takes 128 mma a warp (1024 clocks of sm_80's tensor cores at full rate) and some 150
// (16-bit pages) to 500 (quantized) other instructions to expand, 250 for the softmax: three blocks an SM overlap them
// (shared memory 55 KB, registers <= 168). Expected half of the dense bf16 rate or more with 16-bit pages.
//
// Tiles begin at multiples of their size whatever the range, and a tile in which a row sees nothing leaves its state
// bit for bit: a row's result depends on the cache and its range alone, not on the other rows. Where the tiles of a call
// are too few for the card, blocks take one segment of the cache each; what they leave is folded in the same order.
#include "kernels/cuda/attention_prefill.h"

namespace tokensieve::kernels::cuda {

namespace {

// What a thread holds of its warp's 16 rows: of rows lane / 4 and lane / 4 + 8 every 8 channels two.
template <int kDim>
struct State {
  float o[kDim / 8][4] = {};
  float max[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
};

// Scores to probabilities, and the state to their new maximum.
template <int kDim, int kKeys>
__device__ __forceinline__ void soften(const HeadShape& shape, const Range range[2], int from, const float* bias,
                                       float s[][4], State<kDim>* state) {
  const int lane = threadIdx.x % 32, end = from + kKeys;
  const bool all = __all_sync(
      0xffffffffu, range[0].first <= from && range[0].end >= end && range[1].first <= from && range[1].end >= end);
  float top[2] = {-INFINITY, -INFINITY}, shrink[2];
#pragma unroll
  for (int n = 0; n < kKeys / 8; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int key = 8 * n + lane % 4 * 2 + e % 2, j = from + key;
      const bool seen = all || (j >= range[e / 2].first && j < range[e / 2].end);
      s[n][e] = seen ? fmaf(s[n][e], shape.scale, bias[key]) : -INFINITY;
      top[e / 2] = fmaxf(top[e / 2], s[n][e]);
    }
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
    top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 2));
    top[r] = fmaxf(top[r], state->max[r]);
    const float base = top[r] > -INFINITY ? top[r] : 0.0f;
    shrink[r] = __expf(state->max[r] - base);
    state->max[r] = top[r];
    state->sum[r] *= shrink[r];
    top[r] = base;
  }
#pragma unroll
  for (int n = 0; n < kKeys / 8; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
      s[n][e] = __expf(s[n][e] - top[e / 2]);
      state->sum[e / 2] += s[n][e];
    }
  }
  if (!__any_sync(0xffffffffu, shrink[0] != 1 || shrink[1] != 1)) return;
#pragma unroll
  for (int n = 0; n < kDim / 8; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) state->o[n][e] *= shrink[e / 2];
  }
}

// o += p v.
template <int kDim, int kKeys>
__device__ __forceinline__ void weigh_tile(const float p[][4], const uint16_t* v, int head_size, State<kDim>* state) {
  const int lane = threadIdx.x % 32, stride = head_size + kPadding;
  const uint16_t* row = v + lane % 16 * stride + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < kKeys / 8; k += 2) {
    const uint32_t a[4] = {pack_bf16(p[k][0], p[k][1]), pack_bf16(p[k][2], p[k][3]),
                           pack_bf16(p[k + 1][0], p[k + 1][1]), pack_bf16(p[k + 1][2], p[k + 1][3])};
#pragma unroll
    for (int n = 0; n < kDim / 8; n += 2) {
      if (8 * n >= head_size) continue;
      uint32_t b[4];
      ldmatrix_x4_trans(b, row + 8 * k * stride + 8 * n);
      multiply_two(state->o[n], state->o[n + 1], a, b);
    }
  }
}

// What a row has come to before a segment, and what either weighs.
struct Total {
  float max = -INFINITY, sum = 0, before = 0, now = 0;

  __device__ __forceinline__ void fold(float segment_max, float segment_sum) {
    const float top = fmaxf(max, segment_max), base = top > -INFINITY ? top : 0.0f;
    before = expf(max - base);
    now = expf(segment_max - base);
    sum = fmaf(sum, before, segment_sum * now);
    max = top;
  }
  __device__ __forceinline__ float of(float old, float o) const { return fmaf(old, before, o * now); }
  __device__ __forceinline__ float share() const { return sum > 0 ? 1 / sum : 0.0f; }
  __device__ __forceinline__ float lse() const { return sum > 0 ? max + logf(sum) : -INFINITY; }
};

__device__ __forceinline__ float row_sum_of(float sum) {
  sum += __shfl_xor_sync(0xffffffffu, sum, 1);
  return sum + __shfl_xor_sync(0xffffffffu, sum, 2);
}

__device__ __forceinline__ void store_lse(const HeadShape& shape, const HeadView& head, int at, float lse) {
  if (head.lse) head.lse[static_cast<size_t>(at / shape.group) * shape.heads + at % shape.group] = lse;
  if (head.mass) head.scratch[at] = lse;
}

// Folds a segment's state into the rows of `out`, and begins a new one. first: nothing is in `out` yet; last: divides.
template <int kDim>
__device__ __forceinline__ void fold_tile(const HeadShape& shape, const HeadView& head, int row, bool first, bool last,
                                          State<kDim>* state, Total total[2]) {
  const int lane = threadIdx.x % 32, d = shape.head_size;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    total[r].fold(state->max[r], row_sum_of(state->sum[r]));
    const int at = row + lane / 4 + 8 * r, i = at / shape.group, g = at % shape.group;
    if (i >= head.n) continue;
    const float share = last ? total[r].share() : 1.0f;
    float* out = head.out + static_cast<size_t>(i) * head.ldo + g * d + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kDim / 8; n++) {
      if (8 * n >= d) continue;
#pragma unroll
      for (int e = 0; e < 2; e++) {
        out[8 * n + e] = total[r].of(first ? 0.0f : out[8 * n + e], state->o[n][2 * r + e]) * share;
      }
    }
    if (last && lane % 4 == 0) store_lse(shape, head, at, total[r].lse());
  }
  *state = State<kDim>();
}

template <int kDim>
__device__ __forceinline__ void store_part(int head_size, const State<kDim>& state, float* part) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const float sum = row_sum_of(state.sum[r]);
    const int at = row + 8 * r;
    if (lane % 4 == 0) part[at] = state.max[r], part[kTileRows + at] = sum;
    float* o = part + 2 * kTileRows + at * head_size + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kDim / 8; n++) {
      if (8 * n >= head_size) continue;
      o[8 * n] = state.o[n][2 * r];
      o[8 * n + 1] = state.o[n][2 * r + 1];
    }
  }
}

}  // namespace

template <int kDim, int kKeys>
__global__ void attention_prefill(PrefillCall call) {
  SHARED_MEMORY(RowAt, key_rows);  // [kKeys]
  const HeadShape& shape = call.shape;
  const PrefillTile tile = call.tiles[blockIdx.x];
  const HeadView& head = call.heads[tile.head];
  const int d = shape.head_size, row = tile.row + threadIdx.x / 32 * 16;
  RowAt* value_rows = key_rows + kKeys;
  float* bias = reinterpret_cast<float*>(value_rows + kKeys);
  uint16_t* q = reinterpret_cast<uint16_t*>(bias + kKeys);
  uint16_t* k = q + kTileRows * (d + kPadding);
  uint16_t* v = k + d * (kKeys + kPadding);
  const Range range[2] = {row_range(shape, head, row + threadIdx.x % 32 / 4),
                          row_range(shape, head, row + threadIdx.x % 32 / 4 + 8)};
  State<kDim> state;
  Total total[2];
  bool first = true;
  load_tile_queries(shape, head, tile.row, q);
  int from = tile.from / kKeys * kKeys;
  if (from < tile.to) {
    find_rows(head.keys, from, kKeys, head.rows, key_rows);
    find_rows(head.values, from, kKeys, head.rows, value_rows);
  }
  for (; from < tile.to; from += kKeys) {
    if (from % kSegment == 0 && from > tile.from) {
      fold_tile<kDim>(shape, head, row, first, false, &state, total);
      first = false;
    }
    __syncthreads();
    const int exist = head.rows - from < kKeys ? head.rows - from : kKeys;
    expand_keys<kKeys>(shape, key_rows, from, exist, k);
    expand_values<kKeys>(shape, value_rows, exist, v);
    for (int i = threadIdx.x; i < kKeys; i += kTileThreads) bias[i] = head.bias && i < exist ? head.bias[from + i] : 0;
    __syncthreads();
    if (from + kKeys < tile.to) {  // the next ones
      find_rows(head.keys, from + kKeys, kKeys, head.rows, key_rows);
      find_rows(head.values, from + kKeys, kKeys, head.rows, value_rows);
    }
    const bool some = (range[0].first < from + kKeys && range[0].end > from) ||
                      (range[1].first < from + kKeys && range[1].end > from);
    if (!__any_sync(0xffffffffu, some)) continue;
    float s[kKeys / 8][4];
    score_tile<kKeys>(q, k, d, s);
    soften<kDim, kKeys>(shape, range, from, bias, s, &state);
    weigh_tile<kDim, kKeys>(s, v, d, &state);
  }
  if (tile.part >= 0) return store_part<kDim>(d, state, call.parts + tile.part * part_floats(d));
  fold_tile<kDim>(shape, head, row, first, true, &state, total);
}

// A thread one channel of every so many rows of a tile whose segments were done apart.
__global__ void attention_parts(PrefillCall call) {
  const HeadShape& shape = call.shape;
  const PartsTile tile = call.merges[blockIdx.x];
  const HeadView& head = call.heads[tile.head];
  const int d = shape.head_size;
  for (int at = threadIdx.x; at < kTileRows * d; at += kTileThreads) {
    const int row = at / d, c = at % d, i = (tile.row + row) / shape.group, g = (tile.row + row) % shape.group;
    if (i >= head.n) continue;
    Total total;
    float value = 0;
    for (int p = 0; p < tile.count; p++) {
      const float* part = call.parts + (tile.first + p) * part_floats(d);
      total.fold(part[row], part[kTileRows + row]);
      value = total.of(value, part[2 * kTileRows + at]);
    }
    head.out[static_cast<size_t>(i) * head.ldo + g * d + c] = value * total.share();
    if (c == 0) store_lse(shape, head, tile.row + row, total.lse());
  }
}

namespace {

template <int kDim, int kKeys>
void launch(const PrefillCall& call, Stream stream) {
  const size_t bytes = tile_bytes(call.shape.head_size, kKeys, true);
  allow_shared((attention_prefill<kDim, kKeys>), bytes);
  LAUNCH((attention_prefill<kDim, kKeys>), call.tile_count, kTileThreads, bytes, stream, call);
}

}  // namespace

void attend_prefill(const PrefillCall& call, Stream stream) {
  if (call.shape.head_size <= 64) {
    launch<64, 64>(call, stream);
  } else if (call.shape.head_size <= 128) {
    launch<128, 64>(call, stream);
  } else {
    launch<256, 32>(call, stream);
  }
  if (call.merge_count > 0) LAUNCH(attention_parts, call.merge_count, kTileThreads, 0, stream, call);
}

}  // namespace tokensieve::kernels::cuda
