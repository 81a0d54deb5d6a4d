// The decode path of attention (n <= kDecodeRows query rows) and what the probe shares with it.
#pragma once

#include "kernels/cuda/attention_view.h"

namespace tokensieve::kernels::cuda {

constexpr int kDecodeRows = 4;
constexpr int kDecodeThreads = kSplit;  // a thread a key
constexpr int kMostColumns = 8;  // query heads of query rows that a block scores at once

// kSplit rows of a head for the columns [column, column + Q): column = query row * group + query head of the group.
struct DecodeTask {
  int32_t head, split, column;
};
struct MergeTask {
  int32_t head, column;
};

// A head's scratch, floats: lse [columns], then of every split max, sum and O of all columns, then (where mass is asked
// for) the scores [columns][splits * kSplit].
struct DecodeScratch {
  int columns, first, splits, head_size;

  __host__ __device__ DecodeScratch(const HeadView& head, int group, int head_size)
      : columns(head.n * group), first(head.from / kSplit), splits(0), head_size(head_size) {
    splits = head.to > head.from ? (head.to + kSplit - 1) / kSplit - first : 1;
  }
  __host__ __device__ size_t state(int split, int column) const {
    return static_cast<size_t>(columns) + static_cast<size_t>((split - first) * columns + column) * (head_size + 2);
  }
  __host__ __device__ size_t scores(int column) const {
    return state(first + splits, 0) + static_cast<size_t>(column) * splits * kSplit;
  }
  size_t floats(bool mass) const { return mass ? scores(columns) : splits > 1 ? state(first + splits, 0) : 0; }
};

struct DecodeCall {
  HeadShape shape;
  const HeadView* heads;
  const DecodeTask* tasks;
  const MergeTask* merges;
  const DecodeTask* masses;
  int task_count, merge_count, mass_count;
  int columns;  // of a task: 1, 2, 4 or 8
};

void attend_decode(const DecodeCall& call, Stream stream);

// Query row and head of the group of the k-th column of a block.
struct Place {
  int row, head;
};
struct DecodeColumns {
  int first, group;
  __device__ __forceinline__ Place operator()(int k) const { return {(first + k) / group, (first + k) % group}; }
};

// q [head_size][Q] of a block's columns; those that do not exist are zeros.
template <int Q, class At>
__device__ __forceinline__ void load_queries(const HeadShape& shape, const HeadView& head, const At& columns,
                                             float* q) {
  const int d = shape.head_size;
  for (int at = threadIdx.x; at < d * Q; at += kDecodeThreads) {
    const int c = at % d, k = at / d;
    const Place place = columns(k);
    q[c * Q + k] = place.row < head.n ? head.q[place.row * head.ldq + place.head * d + c] : 0.0f;
  }
}

template <int Q>
__device__ __forceinline__ void add_products(const float* q, float x, float sum[Q]) {
#pragma unroll
  for (int k = 0; k < Q; k++) sum[k] = fmaf(q[k], x, sum[k]);
}

// Keys that are rotated when read: slot j by the angles of column j.
template <int Q, DType T>
__device__ __forceinline__ void rotated_dots(const HeadShape& shape, const RowAt& key, int j, const float* q,
                                             float sum[Q]) {
  const int d = shape.head_size, half = shape.half;
  for (int c = 0; c < half; c++) {
    const float cos = shape.cos[static_cast<size_t>(c) * shape.table_rows + j];
    const float sin = shape.sin[static_cast<size_t>(c) * shape.table_rows + j];
    const float a = key_at<T>(key.page, d, key.row, c), b = key_at<T>(key.page, d, key.row, c + half);
    add_products<Q>(q + c * Q, a * cos - b * sin, sum);
    add_products<Q>(q + (c + half) * Q, b * cos + a * sin, sum);
  }
  for (int c = 2 * half; c < d; c++) add_products<Q>(q + c * Q, key_at<T>(key.page, d, key.row, c), sum);
}

template <int Q, DType T>
__device__ __forceinline__ void plain_dots(const HeadShape& shape, const RowAt& key, const float* q, float sum[Q]) {
#pragma unroll 2
  for (int c = 0; c < shape.head_size; c += 8) {
    float x[8];
    key_channels<T>(key.page, shape.head_size, key.row, c, x);
#pragma unroll
    for (int i = 0; i < 8; i++) add_products<Q>(q + (c + i) * Q, x[i], sum);
  }
}

// score[k] of cache row j for a block's columns; -infinity where a query row does not see it.
template <int Q, class At>
__device__ __forceinline__ void score_key(const HeadShape& shape, const HeadView& head, const RowAt& key, int j,
                                          const At& columns, const float* q, float score[Q]) {
  float sum[Q] = {};
  with_page_type(key.type, [&](auto typed) {
    constexpr DType type = decltype(typed)::type;
    if (shape.half > 0) {
      rotated_dots<Q, type>(shape, key, j, q, sum);
    } else {
      plain_dots<Q, type>(shape, key, q, sum);
    }
  });
  const float bias = head.bias ? head.bias[j] : 0;
#pragma unroll
  for (int k = 0; k < Q; k++) {
    const int i = columns(k).row;
    const bool seen = i < head.n && j >= head.first[i] && j < head.end[i];
    score[k] = seen ? fmaf(sum[k], shape.scale, bias) : -INFINITY;
  }
}

// max[k] over the block and the sum of exp(score - max), which takes the place of score; `shared` holds 2 * Q floats a
// warp. Sums in ascending order of warps: the same in every thread.
template <int Q>
__device__ __forceinline__ void block_softmax(float score[Q], float* shared, float max[Q], float sum[Q]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = kDecodeThreads / 32;
#pragma unroll
  for (int k = 0; k < Q; k++) {
    const float top = warp_max(score[k]);
    if (lane == 0) shared[warp * Q + k] = top;
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < Q; k++) {
    max[k] = -INFINITY;
    for (int w = 0; w < warps; w++) max[k] = fmaxf(max[k], shared[w * Q + k]);
    score[k] = score[k] > -INFINITY ? expf(score[k] - max[k]) : 0.0f;
    const float part = warp_sum(score[k]);
    if (lane == 0) shared[(warps + warp) * Q + k] = part;
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < Q; k++) {
    sum[k] = 0;
    for (int w = 0; w < warps; w++) sum[k] += shared[(warps + w) * Q + k];
  }
}

}  // namespace tokensieve::kernels::cuda
