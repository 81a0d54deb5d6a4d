// Attention: what the jobs of a call come to, and the launches. Jobs of up to kDecodeRows query rows take the path of
// attention_decode.cu, others that of attention_prefill.cu; a call may hold both.
#include "kernels/attention.h"

#include <algorithm>

#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_prefill.h"

namespace tokensieve::kernels::cuda {

namespace {

struct Work {
  Plan plan;
  std::vector<DecodeTask> decode, decode_mass;
  std::vector<MergeTask> merges;
  std::vector<PrefillTile> tiles, by_head;
  std::vector<MassTile> masses;
  int columns = 1;  // of a decode task

  void clear() {
    plan.clear();
    decode.clear();
    decode_mass.clear();
    merges.clear();
    tiles.clear();
    by_head.clear();
    masses.clear();
    columns = 1;
  }
};

// Blocks take as many columns as the largest job of the call has, up to kMostColumns.
int task_columns(const AttentionJob* jobs, int count, int group) {
  int most = 1, columns = 1;
  for (int i = 0; i < count; i++) {
    if (jobs[i].n <= kDecodeRows) most = std::max(most, jobs[i].n * group);
  }
  while (columns < most && columns < kMostColumns) columns *= 2;
  return columns;
}

// Floats of scratch of a head.
size_t head_floats(const HeadView& head, int group, int head_size) {
  if (head.n > kDecodeRows) return head.mass ? static_cast<size_t>(head.n) * static_cast<size_t>(group) : 0;
  return DecodeScratch(head, group, head_size).floats(head.mass != nullptr);
}

void add_decode(const HeadView& head, int index, int group, int head_size, Work* work) {
  const DecodeScratch scratch(head, group, head_size);
  for (int s = scratch.first; s < scratch.first + scratch.splits; s++) {
    for (int c = 0; c < scratch.columns; c += work->columns) work->decode.push_back({index, s, c});
    if (head.mass) work->decode_mass.push_back({index, s, 0});
  }
  for (int c = 0; c < scratch.columns && scratch.splits > 1; c++) work->merges.push_back({index, c});
}

void add_prefill(const View& view, const HeadView& head, int index, int group, Work* work) {
  const int first = static_cast<int>(work->by_head.size()), rows = head.n * group;
  for (int row = 0; row < rows; row += kTileRows) {
    PrefillTile tile = {index, row, 0, 0};
    Plan::cover(view, row / group, (std::min(row + kTileRows, rows) - 1) / group + 1, &tile.from, &tile.to);
    work->by_head.push_back(tile);
  }
  const int tiles = static_cast<int>(work->by_head.size()) - first;
  for (int row = head.from / kBlockRows * kBlockRows; head.mass && row < head.to; row += kBlockRows) {
    work->masses.push_back({index, row, first, tiles});
  }
}

void add_heads(const AttentionShape& shape, const AttentionJob* jobs, int count, float* scratch, Work* work) {
  const int group = shape.heads / shape.kv_heads;
  work->columns = task_columns(jobs, count, group);
  for (int j = 0; j < count; j++) {
    for (int kv = 0; kv < shape.kv_heads; kv++) {
      const int index = static_cast<int>(work->plan.heads.size());
      const HeadView& head = work->plan.add(shape, jobs[j], kv, scratch);
      scratch += head_floats(head, group, shape.head_size);
      if (head.n > kDecodeRows) {
        add_prefill(jobs[j].views[kv], head, index, group, work);
      } else {
        add_decode(head, index, group, shape.head_size, work);
      }
    }
  }
  work->tiles = work->by_head;
  std::stable_sort(work->tiles.begin(), work->tiles.end(),
                   [](const PrefillTile& a, const PrefillTile& b) { return a.to - a.from > b.to - b.from; });
}

template <class T>
const T* send(Team& team, const std::vector<T>& items) {
  return items.empty() ? nullptr : upload(team, items.data(), items.size());
}

void launch(const AttentionShape& shape, Work* work, Team& team) {
  const HeadShape heads = head_shape(shape);
  const HeadView* views = work->plan.send(team);
  if (!work->decode.empty()) {
    DecodeCall call = {};
    call.shape = heads;
    call.heads = views;
    call.tasks = send(team, work->decode);
    call.merges = send(team, work->merges);
    call.masses = send(team, work->decode_mass);
    call.task_count = static_cast<int>(work->decode.size());
    call.merge_count = static_cast<int>(work->merges.size());
    call.mass_count = static_cast<int>(work->decode_mass.size());
    call.columns = work->columns;
    attend_decode(call, stream_of(team));
  }
  if (!work->tiles.empty()) {
    PrefillCall call = {};
    call.shape = heads;
    call.heads = views;
    call.tiles = send(team, work->tiles);
    call.by_head = send(team, work->by_head);
    call.masses = send(team, work->masses);
    call.tile_count = static_cast<int>(work->tiles.size());
    call.mass_count = static_cast<int>(work->masses.size());
    attend_prefill(call, stream_of(team));
    if (call.mass_count > 0) add_prefill_mass(call, stream_of(team));
  }
}

}  // namespace

size_t attention_scratch(const AttentionShape& shape, const AttentionJob* jobs, int count, int) noexcept {
  const int group = shape.heads / shape.kv_heads;
  size_t floats = 0;
  for (int j = 0; j < count; j++) {
    for (int kv = 0; kv < shape.kv_heads; kv++) {
      HeadView head = {};
      head.n = jobs[j].n;
      head.mass = jobs[j].views[kv].mass;
      Plan::cover(jobs[j].views[kv], 0, head.n, &head.from, &head.to);
      floats += head_floats(head, group, shape.head_size);
    }
  }
  return 4 * floats;
}

void attention(const AttentionShape& shape, const AttentionJob* jobs, int count, void* scratch, Team& team) noexcept {
  try {
    static thread_local Work work;
    work.clear();
    add_heads(shape, jobs, count, static_cast<float*>(scratch), &work);
    launch(shape, &work, team);
  } catch (const std::bad_alloc&) {
    out_of_memory(stream_of(team));
  }
}

}  // namespace tokensieve::kernels::cuda
