// Prefill: the rows of a head are opened once, then tiles of query rows walk over tiles of kTileKeys cache rows with a
// running (maximum, sum, output). Tiles of keys begin at multiples of kTileKeys whatever is visible, and what a query
// row does not see adds exact zeros: its result does not depend on the rows computed with it.
//
// Mass: where it is asked for, a tile keeps its exponentials with the maximum that they were taken against; once the
// sums are known, one pass over them adds the tile's probabilities to a line that a run of tiles shares. Lines are added
// in the order of the runs, so the sums do not depend on the team either.
#include "kernels/cpu/attention_floats.h"
#include "kernels/cpu/attention_ints.h"
#include "kernels/cpu/attention_mass.h"
#include "kernels/cpu/page_layout.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

// A worker's part of the scratch.
template <class Number>
void take_desk(const Plan& plan, int worker, Tile<Number>* tile) {
  const size_t d = static_cast<size_t>(plan.shape->head_size);
  float* at = reinterpret_cast<float*>(plan.workers + plan.worker_bytes * static_cast<size_t>(worker));
  tile->s = at;
  tile->o = at + kTileRows * kTileKeys;
  tile->q = reinterpret_cast<Number*>(tile->o + kTileRows * d);
  tile->p =
      sizeof(Number) == 4 ? reinterpret_cast<Number*>(tile->s) : reinterpret_cast<Number*>(tile->o + 2 * kTileRows * d);
  tile->tops = at + prefill_floats(*plan.shape, 0);
}

// [tiles of keys][kTileRows][kTileKeys]: where exponentials are kept while mass is summed.
template <class Number>
auto* kept_from(const Plan& plan, const Tile<Number>& tile) {
  return reinterpret_cast<typename Tile<Number>::Kept*>(tile.tops + up(plan.mass_rows, kTileKeys) * kTileRows);
}

template <class Number>
void begin(const Plan& plan, const PrefillHead& head, Tile<Number>* tile) {
  const int d = plan.shape->head_size;
  const F scale = set1(plan.shape->scale * kLog2e);
  for (int r = 0; r < kTileRows; r++) {
    const bool real = r < tile->rows;
    const int i = (tile->row0 + r) / plan.group, g = (tile->row0 + r) % plan.group;
    const float* x = head.job->q + static_cast<size_t>(i) * head.job->ldq + (head.kv * plan.group + g) * d;
    take_query(tile, r, real ? x : nullptr, scale, d);
    for (int c = 0; c < d; c += 16) store(tile->o + r * d + c, zero());
    tile->first[r] = real ? head.view->first[i] : 0;
    tile->end[r] = real ? head.view->end[i] : 0;
  }
  for (int r = 0; r < kTileLanes; r += 16) store(tile->top + r, set1(kLowest));
}

template <class Number>
void finish(const Plan& plan, const PrefillHead& head, const Tile<Number>& tile) {
  const int d = plan.shape->head_size;
  for (int r = 0; r < tile.rows; r++) {
    const int i = (tile.row0 + r) / plan.group, h = head.kv * plan.group + (tile.row0 + r) % plan.group;
    float* y = head.job->out + static_cast<size_t>(i) * head.job->ldo + h * d;
    const F factor = set1(tile.sum[r] > 0 ? 1 / tile.sum[r] : 0);
    for (int c = 0; c < d; c += 16) store(y + c, mul(load(tile.o + r * d + c), factor));
    if (!head.job->lse) continue;
    const float lse = tile.sum[r] > 0 ? kLn2 * tile.top[r] + __builtin_logf(tile.sum[r]) : -__builtin_inff();
    head.job->lse[i * plan.shape->heads + h] = lse;
  }
}

// mass: a line for the sums of this tile and others, or null.
template <class Number>
void attend(const Plan& plan, const PrefillHead& head, int index, float* mass, int worker) {
  Tile<Number> tile{};
  tile.row0 = index * kTileRows;
  const int rest = head.job->n * plan.group - tile.row0;
  tile.rows = rest < kTileRows ? rest : kTileRows;
  take_desk(plan, worker, &tile);
  begin(plan, head, &tile);
  int first = head.end, end = 0;
  for (int r = 0; r < tile.rows; r++) {
    if (tile.end[r] <= tile.first[r]) continue;
    first = tile.first[r] < first ? tile.first[r] : first;
    end = tile.end[r] > end ? tile.end[r] : end;
  }
  auto* const kept = kept_from(plan, tile);
  int done = 0;
  for (int k0 = first / kTileKeys * kTileKeys; k0 < end; k0 += kTileKeys, done += kTileRows) {
    const Range keys = tile_keys(k0, first, end);
    if (mass) keep(&tile, kept + done * kTileKeys);
    step(&tile, head, keys.lo, keys.hi, plan.shape->head_size);
    if (mass) __builtin_memcpy(tile.tops + done, tile.against, kTileRows * sizeof(float));
  }
  finish(plan, head, tile);
  if (!mass) return;
  const KeptTile<typename Tile<Number>::Kept> all{kept, tile.tops, tile.top, tile.sum, tile.rows};
  add_mass(all, {first, end}, 1 / static_cast<float>(plan.group), mass - head.base);
}

// One tile, or a run of tiles that share a line of mass.
template <class Number>
void attend_run(const Plan& plan, const Part& part, int worker) {
  const PrefillHead& head = plan.prefill[part.head];
  if (!head.mass) return attend<Number>(plan, head, part.index, nullptr, worker);
  const int width = head.end - head.base, tiles = up(head.job->n * plan.group, kTileRows);
  const int from = part.index * kMassTiles, to = from + kMassTiles < tiles ? from + kMassTiles : tiles;
  float* line = head.mass + static_cast<size_t>(part.index) * static_cast<size_t>(width);
  for (int j = 0; j < width; j += 16) store(line + j, zero());
  for (int t = from; t < to; t++) attend<Number>(plan, head, t, line, worker);
}

// 16 opened keys [d][16] and values [16][d] into place, from cache row `row` on.
void put_rows(const PrefillHead& head, int row, float* keys, const float* values, int d) {
  const size_t place = static_cast<size_t>(row - head.base) * static_cast<size_t>(d);
#if defined(TS_ISA_INTS)
  if (head.form == Form::int8) {
    put_keys(head, row - head.base, keys, d);
    put_values(head, row - head.base, values, d);
    return;
  }
#endif
#if defined(TS_ISA_BF16)
  if (head.form == Form::bf16) {
    put_keys(reinterpret_cast<uint16_t*>(head.keys) + place, keys, d);
    put_values(reinterpret_cast<uint16_t*>(head.values) + place, values, d);
    return;
  }
#endif
  put_keys(reinterpret_cast<float*>(head.keys) + place, keys, d);
  put_values(reinterpret_cast<float*>(head.values) + place, values, d);
}

}  // namespace

size_t prefill_floats(const AttentionShape& shape, int mass_rows) noexcept {
  const size_t d = static_cast<size_t>(shape.head_size), steps = static_cast<size_t>(up(mass_rows, kTileKeys));
  const size_t desk =
      kTileRows * (kTileKeys + 2 * d + kTileKeys / 2) + 16;  // s, o, q, p (bf16); behind q begin() stores
  return desk + steps * kTileRows * (1 + kTileKeys);  // tops, kept
}

void open_chunk(const Plan& plan, int index) noexcept {
  const Part& part = plan.chunks[index];
  const PrefillHead& head = plan.prefill[part.head];
  const View& view = *head.view;
  const int d = plan.shape->head_size, from = head.base + part.index * kChunkRows;
  const int to = from + kChunkRows < head.end ? from + kChunkRows : head.end;
  alignas(64) float key_block[16 * kMaxHeadSize] = {}, value_block[16 * kMaxHeadSize] = {};
  Cursor keys = head.key_start, values = head.value_start;
  keys.row += from - head.base;
  values.row += from - head.base;
  for (int row = from; row < to; row += 16) {
    const int rest = view.rows - row, n = rest < 16 ? (rest > 0 ? rest : 0) : 16;
    if (n > 0) keys = open_keys(*plan.shape, view, keys, row, n, key_block);
    values = open_values(view, d, values, n, value_block);
    for (int c = n * d; c < 16 * d; c += 16) store(value_block + c, zero());
    put_rows(head, row, key_block, value_block, d);
  }
}

void run_tile(const Plan& plan, int index, int worker) noexcept {
  const Part& part = plan.tiles[index];
  [[maybe_unused]] const Form form = plan.prefill[part.head].form;
#if defined(TS_ISA_INTS)
  if (form == Form::int8) return attend_run<int8_t>(plan, part, worker);
#endif
#if defined(TS_ISA_BF16)
  if (form == Form::bf16) return attend_run<uint16_t>(plan, part, worker);
#endif
  attend_run<float>(plan, part, worker);
}

}  // namespace tokensieve::kernels::TS_ISA
