// The probabilities themselves. Two passes over the keys: the first leaves maximum and sum of every split of kSplit rows
// and query row, the second scores again and writes probabilities or adds them up over the query rows, ascending. Scores
// are those of the decode path, f32 with keys as stored. Scratch is 8 bytes a split, query row and head.
//
// A block takes a split and one query head, a thread a key, and walks over the query rows, 8 at a time: keys come from
// memory once and from the first-level cache after that. Limit: f32 multiply-adds, twice those of one q k^T.
#include <new>

#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/attention_plan.h"

namespace tokensieve::kernels::cuda {

struct ProbeTask {
  int32_t head, split, query_head;
};
struct ProbeCall {
  HeadShape shape;
  const HeadView* heads;  // out: where the head's probabilities go, ldo: ldp
  const ProbeTask* tasks;
  bool per_row;
};

namespace {

constexpr int kRows = kMostColumns;  // query rows at a time

// Query rows `first` and on of one query head.
struct ProbeColumns {
  int first, head;
  __device__ __forceinline__ Place operator()(int k) const { return {first + k, head}; }
};

// A head's scratch: lse [group][n], then of every split [group][n] max and sum.
__device__ __forceinline__ float* lse_of(const HeadView& head, int query_head, int i) {
  return head.scratch + query_head * head.n + i;
}
__device__ __forceinline__ float* state_of(const HeadShape& shape, const HeadView& head, int split, int query_head,
                                           int i) {
  const size_t line = static_cast<size_t>(shape.group) * head.n;
  return head.scratch + line + 2 * (split * line + query_head * head.n + i);
}

int splits_of(int rows) { return (rows + kSplit - 1) / kSplit; }

size_t head_floats(const AttentionJob& job, const View& view, int group) {
  return static_cast<size_t>(group) * static_cast<size_t>(job.n) * (1 + 2 * static_cast<size_t>(splits_of(view.rows)));
}

}  // namespace

// write false: states of a split; else probabilities of its rows.
template <bool write>
__global__ void probe_split(ProbeCall call) {
  SHARED_MEMORY(RowAt, keys);  // [kSplit]
  const HeadShape& shape = call.shape;
  const ProbeTask task = call.tasks[blockIdx.x];
  const HeadView& head = call.heads[task.head];
  const int row0 = task.split * kSplit, tid = threadIdx.x, j = row0 + tid;
  const bool some = row0 < head.to && row0 + kSplit > head.from, seen = some && j >= head.from && j < head.to;
  float* q = reinterpret_cast<float*>(keys + kSplit);  // [head_size][kRows]
  float* shared = q + shape.head_size * kRows;  // [2][warps][kRows]
  if (some) find_rows(head.keys, row0, kSplit, head.rows, keys);
  float all = 0;
  for (int i = 0; i < head.n; i += kRows) {
    const ProbeColumns columns = {i, task.query_head};
    float score[kRows], max[kRows], sum[kRows];
    __syncthreads();
    if (some) load_queries<kRows>(shape, head, columns, q);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kRows; k++) score[k] = -INFINITY;
    if (seen) score_key<kRows>(shape, head, keys[tid], j, columns, q, score);
    if constexpr (!write) {
      block_softmax<kRows>(score, shared, max, sum);
      if (tid >= kRows || i + tid >= head.n) continue;
#pragma unroll
      for (int k = 0; k < kRows; k++) {
        float* state = state_of(shape, head, task.split, task.query_head, i + k);
        if (tid == k) state[0] = max[k], state[1] = sum[k];
      }
    } else {
#pragma unroll
      for (int k = 0; k < kRows; k++) {
        if (i + k >= head.n || j >= head.rows) continue;
        const float p = score[k] > -INFINITY ? expf(score[k] - *lse_of(head, task.query_head, i + k)) : 0.0f;
        all += p;
        if (call.per_row) head.out[(static_cast<size_t>(i + k) * shape.heads + task.query_head) * head.ldo + j] = p;
      }
    }
  }
  if (write && !call.per_row && seen) head.out[task.query_head * head.ldo + j] += all;
}

// lse of every query row and head from the states of its splits, ascending. A block a KV head.
__global__ void probe_merge(ProbeCall call) {
  const HeadView& head = call.heads[blockIdx.x];
  const int columns = call.shape.group * head.n, splits = (head.rows + kSplit - 1) / kSplit;
  for (int column = threadIdx.x; column < columns; column += kDecodeThreads) {
    const int query_head = column / head.n, i = column % head.n;
    float max = -INFINITY, sum = 0;
    for (int s = 0; s < splits; s++) max = fmaxf(max, *state_of(call.shape, head, s, query_head, i));
    for (int s = 0; s < splits; s++) {
      const float* state = state_of(call.shape, head, s, query_head, i);
      if (state[0] > -INFINITY) sum = fmaf(expf(state[0] - max), state[1], sum);
    }
    *lse_of(head, query_head, i) = sum > 0 ? max + logf(sum) : -INFINITY;
  }
}

size_t attention_probe_scratch(const AttentionShape& shape, const AttentionJob& job, int) noexcept {
  size_t floats = 0;
  for (int kv = 0; kv < shape.kv_heads; kv++) floats += head_floats(job, job.views[kv], shape.heads / shape.kv_heads);
  return 4 * floats;
}

void attention_probe(const AttentionShape& shape, const AttentionJob& job, bool per_row, float* out, size_t ldp,
                     void* scratch, Team& team) noexcept {
  try {
    static thread_local Plan plan;
    static thread_local std::vector<ProbeTask> tasks;
    plan.clear();
    tasks.clear();
    const int group = shape.heads / shape.kv_heads;
    float* part = static_cast<float*>(scratch);
    for (int kv = 0; kv < shape.kv_heads; kv++) {
      HeadView& head = plan.add(shape, job, kv, part, true);
      head.out = out + static_cast<size_t>(kv * group) * ldp;
      head.ldo = ldp;
      part += head_floats(job, job.views[kv], group);
      for (int s = 0; s < splits_of(head.rows); s++) {
        for (int g = 0; g < group; g++) tasks.push_back({kv, s, g});
      }
    }
    if (tasks.empty()) return;
    const Stream stream = stream_of(team);
    plan.send_rows(team);
    const ProbeCall call = {head_shape(shape), upload(team, plan.heads.data(), plan.heads.size()),
                            upload(team, tasks.data(), tasks.size()), per_row};
    const int count = static_cast<int>(tasks.size());
    const size_t bytes = sizeof(RowAt) * kSplit + sizeof(float) * kRows * (shape.head_size + 2 * (kDecodeThreads / 32));
    LAUNCH((probe_split<false>), count, kDecodeThreads, bytes, stream, call);
    LAUNCH(probe_merge, shape.kv_heads, kDecodeThreads, 0, stream, call);
    LAUNCH((probe_split<true>), count, kDecodeThreads, bytes, stream, call);
  } catch (const std::bad_alloc&) {
    out_of_memory(stream_of(team));
  }
}

}  // namespace tokensieve::kernels::cuda
