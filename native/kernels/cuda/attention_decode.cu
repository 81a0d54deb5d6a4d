// Attention for up to kDecodeRows query rows: a block of 256 threads takes a split of kSplit rows of one KV head and up
// to 8 columns (query row x head of the group); another kernel merges the splits of a column in a fixed order.
//
// Scores: a thread a key, so that 16 or 32 neighbouring keys of a page lie in neighbouring lanes (32 to 128 bytes a
// load instruction) and no sum crosses lanes; q lies in shared memory, [channel][column], one broadcast read for four
// columns. Values: a lane a channel, four rows a step; a warp takes 32 channels of every other piece; the parts are
// added in ascending order. Everything is f32 with keys and values exactly as stored.
//
// Limit: memory. A key or value element costs its bytes once for up to 8 columns and about 4 + columns instructions a
// lane: with f16 at 15 bytes a clock and SM (H100) there is time for 17, so that up to 8 columns stay near the memory
// limit; q8_0 (8 instructions) up to 4 columns, 4-bit types reach about half of it. 16 loads a thread are in flight.
//
// A result depends on the cache, the query row and its range alone, not on how columns fall to blocks.
#include "kernels/cuda/attention_decode.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kWarps = kDecodeThreads / 32;

// Rows [from, to) of a page times p[k + row][Q] for one channel.
template <int Q, DType T>
__device__ __forceinline__ void weigh_rows(const uint8_t* page, int head_size, int c, int from, int to, int k,
                                           const float* p, float sum[Q]) {
  for (int quad = from / 4; 4 * quad < to; quad += 4) {
    float x[4][4];
#pragma unroll
    for (int b = 0; b < 4; b++) {
      if (4 * (quad + b) < to) value_quad<T>(page, head_size, c, quad + b, x[b]);
    }
#pragma unroll
    for (int r = 0; r < 16; r++) {
      const int row = 4 * quad + r;
      if (row >= from && row < to) add_products<Q>(p + (k + row) * Q, x[r / 4][r % 4], sum);
    }
  }
}

// sum[Q] of channel c over every parts-th piece of a split from its `part`-th on; p [kSplit][Q].
template <int Q>
__device__ __forceinline__ void weigh_pieces(const HeadView& head, int head_size, int split, int c, int part, int parts,
                                             const float* p, float sum[Q]) {
  const int row0 = split * kSplit, end = row0 + kSplit < head.rows ? row0 + kSplit : head.rows;
  const int last = head.values.blocks[(end + kBlockRows - 1) / kBlockRows];
  for (int at = head.values.blocks[row0 / kBlockRows] + part; at <= last; at += parts) {
    const RowPiece piece = head.values.items[at];
    const int skip = piece.first - piece.start;  // row of a page = cache row + skip
    const int from = (piece.start > row0 ? piece.start : row0) + skip;
    const int stop = piece.start + piece.count, to = (stop < end ? stop : end) + skip;
    if (from >= to) continue;
    with_page_type(piece.type, [&](auto typed) {
      weigh_rows<Q, decltype(typed)::type>(piece.page, head_size, c, from, to, -skip - row0, p, sum);
    });
  }
}

// The result of a column: max, sum and O not yet divided.
__device__ __forceinline__ void finish(const HeadShape& shape, const HeadView& head, int column, int c, float max,
                                       float sum, float o) {
  const int i = column / shape.group, g = column % shape.group, d = shape.head_size;
  head.out[static_cast<size_t>(i) * head.ldo + g * d + c] = sum > 0 ? o / sum : 0.0f;
  if (c > 0) return;
  const float lse = sum > 0 ? max + logf(sum) : -INFINITY;
  if (head.lse) head.lse[static_cast<size_t>(i) * shape.heads + g] = lse;
  if (head.mass) head.scratch[column] = lse;
}

// Adds the parts of each column [Q][count][head_size] and stores the result, or the split's state where there are others.
template <int Q>
__device__ __forceinline__ void add_parts(const HeadShape& shape, const HeadView& head, const DecodeScratch& scratch,
                                          const DecodeTask& task, const float* parts, int count, const float* states) {
  const int d = shape.head_size, c = threadIdx.x;
#pragma unroll
  for (int k = 0; k < Q; k++) {
    const int column = task.column + k;
    if (c >= d || column >= scratch.columns) continue;
    float o = 0;
    for (int i = 0; i < count; i++) o += parts[(k * count + i) * d + c];
    if (scratch.splits == 1) {
      finish(shape, head, column, c, states[k], states[Q + k], o);
      continue;
    }
    float* state = head.scratch + scratch.state(task.split, column);
    if (c == 0) state[0] = states[k], state[1] = states[Q + k];
    state[2 + c] = o;
  }
}

}  // namespace

template <int Q>
__global__ void __launch_bounds__(kDecodeThreads, Q == 1 ? 4 : 2) attention_decode(DecodeCall call) {
  SHARED_MEMORY(RowAt, keys);  // [kSplit]
  const HeadShape& shape = call.shape;
  const DecodeTask task = call.tasks[blockIdx.x];
  const HeadView& head = call.heads[task.head];
  const int d = shape.head_size, tid = threadIdx.x, j = task.split * kSplit + tid;
  const DecodeScratch scratch(head, shape.group, d);
  float* q = reinterpret_cast<float*>(keys + kSplit);  // [d][Q]
  float* p = q + d * Q;  // [kSplit][Q]
  float* parts = p + kSplit * Q;  // [Q][parts][d]
  float* warps = parts + kSplit * Q;  // [2][kWarps][Q]
  float* states = warps + 2 * kWarps * Q;  // max and sum [Q]: registers are for what follows
  const DecodeColumns columns = {task.column, shape.group};
  const bool seen = j >= head.from && j < head.to;
  load_queries<Q>(shape, head, columns, q);
  if (head.to > head.from) find_rows(head.keys, task.split * kSplit, kSplit, head.rows, keys);
  __syncthreads();

  float score[Q], max[Q], sum[Q];
#pragma unroll
  for (int k = 0; k < Q; k++) score[k] = -INFINITY;
  if (seen) score_key<Q>(shape, head, keys[tid], j, columns, q, score);
#pragma unroll
  for (int k = 0; k < Q; k++) {
    if (head.mass && task.column + k < scratch.columns) {
      head.scratch[scratch.scores(task.column + k) + j - scratch.first * kSplit] = score[k];
    }
  }
  block_softmax<Q>(score, warps, max, sum);
#pragma unroll
  for (int k = 0; k < Q; k++) {
    p[tid * Q + k] = score[k];
    if (tid == k) states[k] = max[k], states[Q + k] = sum[k];
  }
  __syncthreads();

  const int groups = (d + 31) / 32, count = kWarps / groups;
  const int warp = tid / 32, part = warp / groups, c = warp % groups * 32 + tid % 32;
  if (part < count && c < d) {
    float o[Q] = {};
    if (head.to > head.from) weigh_pieces<Q>(head, d, task.split, c, part, count, p, o);
#pragma unroll
    for (int k = 0; k < Q; k++) parts[(k * count + part) * d + c] = o[k];
  }
  __syncthreads();
  add_parts<Q>(shape, head, scratch, task, parts, count, states);
}

// A block a column; warp w takes the splits whose number is w modulo the warps, ascending.
__global__ void attention_merge(DecodeCall call) {
  SHARED_MEMORY(float, shared);  // [kWarps][d + 1]
  const MergeTask task = call.merges[blockIdx.x];
  const HeadView& head = call.heads[task.head];
  const int d = call.shape.head_size, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const DecodeScratch scratch(head, call.shape.group, d);
  const int end = scratch.first + scratch.splits;
  float max = -INFINITY;
  for (int s = scratch.first + lane; s < end; s += 32) max = fmaxf(max, head.scratch[scratch.state(s, task.column)]);
  max = warp_max(max);
  float o[kMaxHeadSize / 32] = {}, sum = 0;
  for (int s = scratch.first + (warp + kWarps - scratch.first % kWarps) % kWarps; s < end; s += kWarps) {
    const float* state = head.scratch + scratch.state(s, task.column);
    const float weight = state[0] > -INFINITY ? expf(state[0] - max) : 0.0f;
    sum = fmaf(weight, state[1], sum);
#pragma unroll
    for (int i = 0; i < kMaxHeadSize / 32; i++) {
      if (lane + 32 * i < d) o[i] = fmaf(weight, state[2 + lane + 32 * i], o[i]);
    }
  }
  if (lane == 0) shared[warp * (d + 1) + d] = sum;
#pragma unroll
  for (int i = 0; i < kMaxHeadSize / 32; i++) {
    if (lane + 32 * i < d) shared[warp * (d + 1) + lane + 32 * i] = o[i];
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) >= d) return;
  float total = 0, value = 0;
  for (int w = 0; w < kWarps; w++) {
    total += shared[w * (d + 1) + d];
    value += shared[w * (d + 1) + threadIdx.x];
  }
  finish(call.shape, head, task.column, threadIdx.x, max, total, value);
}

// mass of kSplit rows from the scores that attention_decode left and the final lse of each column.
__global__ void attention_decode_mass(DecodeCall call) {
  const DecodeTask task = call.masses[blockIdx.x];
  const HeadView& head = call.heads[task.head];
  const DecodeScratch scratch(head, call.shape.group, call.shape.head_size);
  const int j = task.split * kSplit + threadIdx.x;
  if (j < head.from || j >= head.to) return;
  float sum = 0;
  for (int column = 0; column < scratch.columns; column++) {
    const float score = head.scratch[scratch.scores(column) + j - scratch.first * kSplit];
    if (score > -INFINITY) sum += expf(score - head.scratch[column]);
  }
  head.mass[j] += sum / static_cast<float>(call.shape.group);
}

void attend_decode(const DecodeCall& call, Stream stream) {
  const int d = call.shape.head_size, q = call.columns;
  const size_t bytes = sizeof(RowAt) * kSplit + sizeof(float) * q * (d + 2 * kSplit + 2 * kWarps + 2);
  switch (q) {
    case 1: LAUNCH((attention_decode<1>), call.task_count, kDecodeThreads, bytes, stream, call); break;
    case 2: LAUNCH((attention_decode<2>), call.task_count, kDecodeThreads, bytes, stream, call); break;
    case 4: LAUNCH((attention_decode<4>), call.task_count, kDecodeThreads, bytes, stream, call); break;
    default: LAUNCH((attention_decode<8>), call.task_count, kDecodeThreads, bytes, stream, call);
  }
  if (call.merge_count > 0) {
    LAUNCH(attention_merge, call.merge_count, kDecodeThreads, sizeof(float) * kWarps * (d + 1), stream, call);
  }
  if (call.mass_count > 0) LAUNCH(attention_decode_mass, call.mass_count, kDecodeThreads, 0, stream, call);
}

}  // namespace tokensieve::kernels::cuda
