// Prefill: the rows of a head are opened once, then tiles of query rows walk over tiles of kTileKeys cache rows with a
// running (maximum, sum, output). Tiles of keys begin at multiples of kTileKeys whatever is visible, and what a query
// row does not see adds exact zeros: its result does not depend on the rows computed with it.
//
// Mass: where it is asked for, a tile keeps its exponentials with the maximum that they were taken against; once the
// sums are known, one pass over them adds the tile's probabilities to a line that a run of tiles shares. Lines are added
// in the order of the runs, so the sums do not depend on the team either.
#include "kernels/cpu/attention_mass.h"
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/page_layout.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

// A worker's part of the scratch. Number is float or, for what is multiplied as bf16, uint16_t.
template <class Number>
struct Tile {
  Number* q;  // [kTileRows][d], times scale * log2(e)
  Number* p;  // [kTileRows][kTileKeys]; for float the same memory as s
  float* s;  // [kTileRows][kTileKeys]
  Number* kept;  // [tiles of keys][kTileRows][kTileKeys]: where p (and s for float) lies while mass is summed
  float* tops;  // [tiles of keys][kTileRows]: the maxima that they were taken against
  float* o;  // [kTileRows][d]
  float top[kTileRows], sum[kTileRows];
  int first[kTileRows], end[kTileRows];  // what each row sees
  int rows, row0;  // query rows of the head (token * group + g)
};

TS_INLINE void store_numbers(float* p, F low, F high) {
  store(p, low);
  store(p + 16, high);
}
#if defined(TS_ISA_BF16)
TS_INLINE void store_numbers(uint16_t* p, F low, F high) { store_row(p, low, high); }
#endif

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
  tile->kept = reinterpret_cast<Number*>(tile->tops + up(plan.mass_rows, kTileKeys) * kTileRows);
}

// Tile number `step` of keys: what follows is kept.
void keep_from(Tile<float>* tile, int step) { tile->s = tile->p = tile->kept + step * kTileRows * kTileKeys; }
#if defined(TS_ISA_BF16)
void keep_from(Tile<uint16_t>* tile, int step) { tile->p = tile->kept + step * kTileRows * kTileKeys; }
#endif

template <class Number>
void begin(const Plan& plan, const PrefillHead& head, Tile<Number>* tile) {
  const int d = plan.shape->head_size;
  const F scale = set1(plan.shape->scale * kLog2e);
  for (int r = 0; r < kTileRows; r++) {
    const bool real = r < tile->rows;
    const int i = (tile->row0 + r) / plan.group, g = (tile->row0 + r) % plan.group;
    const float* x = head.job->q + static_cast<size_t>(real ? i : 0) * head.job->ldq + (head.kv * plan.group + g) * d;
    for (int c = 0; c < d; c += 32) {  // the last 16 channels are stored with 16 zeros behind: the next row, or spare
      const F low = real ? mul(load(x + c), scale) : zero();
      const F high = real && c + 16 < d ? mul(load(x + c + 16), scale) : zero();
      store_numbers(tile->q + r * d + c, low, high);
    }
    for (int c = 0; c < d; c += 16) store(tile->o + r * d + c, zero());
    tile->first[r] = real ? head.view->first[i] : 0;
    tile->end[r] = real ? head.view->end[i] : 0;
    tile->top[r] = kLowest;
    tile->sum[r] = 0;
  }
}

// Hides what row r does not see of cache rows [k0, k0 + n), and adds the bias.
void mask(float* s, int n, int first, int end, const float* bias, int rows_left) {
  for (int j = 0; bias && j < n && j < rows_left; j += 16) {
    const F b = rows_left - j < 16 ? load_part(bias + j, rows_left - j) : load(bias + j);
    store(s + j, fma(b, set1(kLog2e), load(s + j)));
  }
  for (int j = 0; j < first && j < n; j++) s[j] = -__builtin_inff();
  for (int j = end > 0 ? end : 0; j < n; j++) s[j] = -__builtin_inff();
}

// 2^x, x <= 0. Of what is rounded to bf16 next (to 2^-9) a shorter polynomial is enough: to 3e-6, 2^0 is exactly 1.
template <class Number>
TS_INLINE F power(F x) {
  if constexpr (sizeof(Number) == sizeof(float)) return exp2(x);
  x = max(x, set1(-160));
  const F n = round(x), f = sub(x, n);
  F p = fma(set1(9.58285642e-3f), f, set1(5.59064334e-2f));
  p = fma(p, f, set1(2.40240986e-1f));
  p = fma(p, f, set1(6.93124192e-1f));
  return scale_by_power(fma(p, f, set1(1)), n);
}

// Scores of one row -> exponentials against the running maximum; the sum and the output so far are rescaled where it
// rose.
template <class Number>
void soften(Tile<Number>* tile, int r, int n, int d) {
  const float* s = tile->s + r * kTileKeys;
  Number* p = tile->p + r * kTileKeys;
  F high = load(s);
  for (int j = 16; j < n; j += 16) high = max(high, load(s + j));
  const float top = reduce_max(high);
  if (top > tile->top[r]) {
    const F factor = exp2(set1(tile->top[r] - top));
    float lanes[16];
    store(lanes, factor);
    tile->sum[r] *= lanes[0];
    for (int c = 0; c < d; c += 16) store(tile->o + r * d + c, mul(load(tile->o + r * d + c), factor));
    tile->top[r] = top;
  }
  const F against = set1(tile->top[r]);
  F sum = zero();
  for (int j = 0; j < n; j += 32) {
    const F a = power<Number>(sub(load(s + j), against)), b = power<Number>(sub(load(s + j + 16), against));
    sum = add(sum, add(a, b));
    store_numbers(p + j, a, b);
  }
  tile->sum[r] += reduce_add(sum);
}

template <class Number>
void step(const Plan& plan, const PrefillHead& head, Tile<Number>* tile, int from, int to) {
  const int d = plan.shape->head_size, n = to - from;
  const size_t place = static_cast<size_t>(from - head.base) * static_cast<size_t>(d);
  const View& view = *head.view;
  score_rows(tile->q, tile->rows, reinterpret_cast<const Number*>(head.keys) + place, n, d, tile->s, kTileKeys);
  for (int r = 0; r < tile->rows; r++) {
    const float* bias = view.bias ? view.bias + from : nullptr;
    mask(tile->s + r * kTileKeys, n, tile->first[r] - from, tile->end[r] - from, bias, view.rows - from);
    soften(tile, r, n, d);
  }
  weigh_rows(tile->p, kTileKeys, tile->rows, reinterpret_cast<const Number*>(head.values) + place, n, d, tile->o);
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
  Tile<Number> tile;
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
  const int step0 = first / kTileKeys;
  for (int k0 = step0 * kTileKeys; k0 < end; k0 += kTileKeys) {
    const Range keys = tile_keys(k0, first, end);
    const int step_index = k0 / kTileKeys - step0;
    if (mass) keep_from(&tile, step_index);
    step(plan, head, &tile, keys.lo, keys.hi);
    if (mass) __builtin_memcpy(tile.tops + step_index * kTileRows, tile.top, sizeof(tile.top));
  }
  finish(plan, head, tile);
  if (!mass) return;
  const KeptTile<Number> kept{tile.kept, tile.tops, tile.top, tile.sum, tile.rows};
  add_mass(kept, {first, end}, 1 / static_cast<float>(plan.group), mass - head.base);
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

// 16 opened keys [d][16] into place, as they are or as pairs of channels.
void put_keys(const PrefillHead& head, const float* block, int row, int d) {
  const size_t place = static_cast<size_t>(row - head.base) * static_cast<size_t>(d);
#if defined(TS_ISA_BF16)
  if (!head.exact) {
    uint16_t* y = reinterpret_cast<uint16_t*>(head.keys) + place;
    for (int c = 0; c < d; c += 2) store_pairs(y + 16 * c, load(block + 16 * c), load(block + 16 * c + 16));
    return;
  }
#endif
  float* y = reinterpret_cast<float*>(head.keys) + place;
  for (int c = 0; c < d; c++) store(y + 16 * c, load(block + 16 * c));
}

void put_values(const PrefillHead& head, const float* rows, int row, int d) {
  const size_t place = static_cast<size_t>(row - head.base) * static_cast<size_t>(d);
#if defined(TS_ISA_BF16)
  if (!head.exact) {
    uint16_t* y = reinterpret_cast<uint16_t*>(head.values) + place;
    for (int j = 0; j < 16; j += 2) {
      for (int c = 0; c < d; c += 16)
        store_pairs(y + j * d + 2 * c, load(rows + j * d + c), load(rows + (j + 1) * d + c));
    }
    return;
  }
#endif
  float* y = reinterpret_cast<float*>(head.values) + place;
  for (int c = 0; c < 16 * d; c += 16) store(y + c, load(rows + c));
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
  alignas(64) float block[16 * kMaxHeadSize] = {};
  Cursor keys = head.key_start, values = head.value_start;
  keys.row += from - head.base;
  values.row += from - head.base;
  for (int row = from; row < to; row += 16) {
    const int rest = view.rows - row, n = rest < 16 ? (rest > 0 ? rest : 0) : 16;
    if (n > 0) keys = open_keys(*plan.shape, view, keys, row, n, block);
    put_keys(head, block, row, d);
    values = open_values(view, d, values, n, block);
    for (int c = n * d; c < 16 * d; c += 16) store(block + c, zero());
    put_values(head, block, row, d);
  }
}

void run_tile(const Plan& plan, int index, int worker) noexcept {
  const Part& part = plan.tiles[index];
#if defined(TS_ISA_BF16)
  if (!plan.prefill[part.head].exact) return attend_run<uint16_t>(plan, part, worker);
#endif
  attend_run<float>(plan, part, worker);
}

}  // namespace tokensieve::kernels::TS_ISA
