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
  std::vector<PartsTile> parts;
  Table lists;
  int columns = 1;  // of a decode task
  size_t floats = 0;  // of scratch; the parts of prefill tiles come last
  int part_count = 0;

  void clear() {
    plan.clear();
    decode.clear();
    decode_mass.clear();
    merges.clear();
    tiles.clear();
    by_head.clear();
    masses.clear();
    parts.clear();
    columns = 1;
    floats = 0;
    part_count = 0;
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
    PrefillTile tile = {index, row, 0, 0, -1};
    Plan::cover(view, row / group, (std::min(row + kTileRows, rows) - 1) / group + 1, &tile.from, &tile.to);
    work->by_head.push_back(tile);
  }
  const int tiles = static_cast<int>(work->by_head.size()) - first;
  for (int row = head.from / kBlockRows * kBlockRows; head.mass && row < head.to; row += kBlockRows) {
    work->masses.push_back({index, row, first, tiles});
  }
}

// A tile a block, or a segment of its cache rows a block.
void cut_tiles(Work* work) {
  if (work->by_head.size() >= kFewTiles) {
    work->tiles = work->by_head;
    return;
  }
  for (PrefillTile tile : work->by_head) {
    const int first = tile.from / kSegment, count = (tile.to + kSegment - 1) / kSegment - first, end = tile.to;
    if (count > 1) work->parts.push_back({tile.head, tile.row, work->part_count, count});
    for (int s = first; s < first + count && count > 1; s++) {
      tile.from = std::max(tile.from, s * kSegment);
      tile.to = std::min(end, (s + 1) * kSegment);
      tile.part = work->part_count++;
      work->tiles.push_back(tile);
    }
    if (count <= 1) work->tiles.push_back(tile);
  }
}

// scratch may be null: of a call that needs none. rows: else only what the work comes to.
void add_heads(const AttentionShape& shape, const AttentionJob* jobs, int count, float* scratch, bool rows,
               Work* work) {
  const int group = shape.heads / shape.kv_heads;
  work->columns = task_columns(jobs, count, group);
  for (int j = 0; j < count; j++) {
    for (int kv = 0; kv < shape.kv_heads; kv++) {
      const int index = static_cast<int>(work->plan.heads.size());
      const HeadView& head = work->plan.add(shape, jobs[j], kv, scratch ? scratch + work->floats : nullptr, rows);
      work->floats += head_floats(head, group, shape.head_size);
      if (head.n > kDecodeRows) {
        add_prefill(jobs[j].views[kv], head, index, group, work);
      } else {
        add_decode(head, index, group, shape.head_size, work);
      }
    }
  }
  cut_tiles(work);
  std::stable_sort(work->tiles.begin(), work->tiles.end(),
                   [](const PrefillTile& a, const PrefillTile& b) { return a.to - a.from > b.to - b.from; });
}

// Where the lists of a call lie in its table.
struct Lists {
  size_t heads, decode, merges, decode_mass, tiles, by_head, masses, parts;
};

Lists add_lists(const Work& work, Table* table) {
  const auto add = [table](const auto& items) { return table->add(items.data(), items.size()); };
  return {add(work.plan.heads), add(work.decode),  add(work.merges), add(work.decode_mass),
          add(work.tiles),      add(work.by_head), add(work.masses), add(work.parts)};
}

int length(size_t n) { return static_cast<int>(n); }

void launch(const AttentionShape& shape, Work* work, float* scratch, Team& team) {
  work->plan.send_rows(team);
  work->lists.clear();
  const Lists at = add_lists(*work, &work->lists);
  const void* there = work->lists.send(team);
  const HeadView* heads = Table::there<HeadView>(there, at.heads);
  if (!work->decode.empty()) {
    DecodeCall call = {};
    call.shape = head_shape(shape);
    call.heads = heads;
    call.tasks = Table::there<DecodeTask>(there, at.decode);
    call.merges = Table::there<MergeTask>(there, at.merges);
    call.masses = Table::there<DecodeTask>(there, at.decode_mass);
    call.task_count = length(work->decode.size());
    call.merge_count = length(work->merges.size());
    call.mass_count = length(work->decode_mass.size());
    call.columns = work->columns;
    attend_decode(call, stream_of(team));
  }
  if (!work->tiles.empty()) {
    PrefillCall call = {};
    call.shape = head_shape(shape);
    call.heads = heads;
    call.tiles = Table::there<PrefillTile>(there, at.tiles);
    call.by_head = Table::there<PrefillTile>(there, at.by_head);
    call.masses = Table::there<MassTile>(there, at.masses);
    call.merges = Table::there<PartsTile>(there, at.parts);
    call.parts = scratch + work->floats;
    call.tile_count = length(work->tiles.size());
    call.mass_count = length(work->masses.size());
    call.merge_count = length(work->parts.size());
    attend_prefill(call, stream_of(team));
    if (call.mass_count > 0) add_prefill_mass(call, stream_of(team));
  }
}

}  // namespace

size_t attention_scratch(const AttentionShape& shape, const AttentionJob* jobs, int count, int) noexcept {
  try {
    static thread_local Work work;
    work.clear();
    add_heads(shape, jobs, count, nullptr, false, &work);
    return 4 * (work.floats + static_cast<size_t>(work.part_count) * part_floats(shape.head_size));
  } catch (const std::bad_alloc&) {
    return 0;  // and so will the call's own
  }
}

void attention(const AttentionShape& shape, const AttentionJob* jobs, int count, void* scratch, Team& team) noexcept {
  try {
    static thread_local Work work;
    work.clear();
    float* const floats = static_cast<float*>(scratch);
    add_heads(shape, jobs, count, floats, true, &work);
    launch(shape, &work, floats, team);
  } catch (const std::bad_alloc&) {
    out_of_memory(stream_of(team));
  }
}

}  // namespace tokensieve::kernels::cuda
