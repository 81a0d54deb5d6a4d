// Prompt attention in f32, or in bf16 with sums in f32: what a tile does with its queries, keys and values.
#pragma once

#include "kernels/cpu/attention_desk.h"
#include "kernels/cpu/attention_tile.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

TS_INLINE void store_numbers(float* p, F low, F high) {
  store(p, low);
  store(p + 16, high);
}
#if defined(TS_ISA_BF16)
TS_INLINE void store_numbers(uint16_t* p, F low, F high) { store_row(p, low, high); }
#endif

// The next tile of keys leaves its exponentials here.
TS_INLINE void keep(Tile<float>* tile, float* kept) { tile->s = tile->p = kept; }
TS_INLINE void keep(Tile<uint16_t>* tile, uint16_t* kept) { tile->p = kept; }

// Row r of the tile: x [d] times scale, or zeros where x is null.
template <class Number>
void take_query(Tile<Number>* tile, int r, const float* x, F scale, int d) {
  for (int c = 0; c < d; c += 32) {  // the last 16 channels are stored with 16 zeros behind: the next row, or spare
    const F low = x ? mul(load(x + c), scale) : zero();
    const F high = x && c + 16 < d ? mul(load(x + c + 16), scale) : zero();
    store_numbers(tile->q + r * d + c, low, high);
  }
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
  const float top = reduce_max(highest(s, n));
  if (top > tile->top[r]) {
    const F factor = exp2(set1(tile->top[r] - top));
    float lanes[16];
    store(lanes, factor);
    tile->sum[r] *= lanes[0];
    for (int c = 0; c < d; c += 16) store(tile->o + r * d + c, mul(load(tile->o + r * d + c), factor));
    tile->top[r] = top;
  }
  tile->against[r] = tile->top[r];
  const F against = set1(tile->top[r]);
  F sum = zero();
  for (int j = 0; j < n; j += 32) {
    const F a = power<Number>(sub(load(s + j), against)), b = power<Number>(sub(load(s + j + 16), against));
    sum = add(sum, add(a, b));
    store_numbers(p + j, a, b);
  }
  tile->sum[r] += reduce_add(sum);
}

// Cache rows [from, to).
template <class Number>
void step(Tile<Number>* tile, const PrefillHead& head, int from, int to, int d) {
  const int n = to - from;
  const size_t place = static_cast<size_t>(from - head.base) * static_cast<size_t>(d);
  score_rows(tile->q, tile->rows, reinterpret_cast<const Number*>(head.keys) + place, n, d, tile->s, kTileKeys);
  for (int r = 0; r < tile->rows; r++) {
    mask_row(*tile, r, *head.view, from, to);
    soften(tile, r, n, d);
  }
  weigh_rows(tile->p, kTileKeys, tile->rows, reinterpret_cast<const Number*>(head.values) + place, n, d, tile->o);
}

// 16 opened keys [d][16] and values [16][d], from the head's `row` on, as they are multiplied.
TS_INLINE void put_keys(float* y, const float* block, int d) {
  for (int c = 0; c < d; c++) store(y + 16 * c, load(block + 16 * c));
}
TS_INLINE void put_values(float* y, const float* rows, int d) {
  for (int c = 0; c < 16 * d; c += 16) store(y + c, load(rows + c));
}
#if defined(TS_ISA_BF16)
TS_INLINE void put_keys(uint16_t* y, const float* block, int d) {
  for (int c = 0; c < d; c += 2) store_pairs(y + 16 * c, load(block + 16 * c), load(block + 16 * c + 16));
}
TS_INLINE void put_values(uint16_t* y, const float* rows, int d) {
  for (int j = 0; j < 16; j += 2) {
    for (int c = 0; c < d; c += 16)
      store_pairs(y + j * d + 2 * c, load(rows + j * d + c), load(rows + (j + 1) * d + c));
  }
}
#endif

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
