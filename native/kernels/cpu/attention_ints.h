// Prompt attention in int8, with sums in int32. Queries, keys and values are integers against the largest channel of
// their row. A value's factor goes into its key's score (2^(s + log) instead of 2^s), so that what is rounded to a weight
// of 8 bits is a row's share of the output: a token that is looked at much and says little (the first, often) costs no
// precision. Weights are taken against the largest of a tile of keys, not of all so far.
#pragma once

#include "kernels/cpu/attention_desk.h"
#include "kernels/cpu/hadamard.h"
#include "kernels/cpu/page_layout.h"

#if defined(TS_ISA_INTS)

namespace tokensieve::kernels::TS_ISA {
namespace {

constexpr int kIntRows = 12, kIntBlocks = 2;  // 24 sums of scores
constexpr int kSumRows = 6, kSumColumns = 4;  // 24 sums of values
constexpr float kMostCode = 127;

// Codes as Dots<8> takes them.
TS_INLINE B biased(B codes) { return kBias8 ? xor_b(codes, set1b(kBias8)) : codes; }

TS_INLINE void keep(Tile<int8_t>* tile, uint16_t* kept) { tile->kept = kept; }

// Queries and keys are turned by a Hadamard matrix, by blocks of as many channels as the head has a power of two of: few
// channels hold most of a key, and they would leave the others few of the 255 steps. The signs before it are a bent
// function of the channel, so that rows which a cache has turned already (HeadKv::hadamard_keys) are not turned back.
struct Flips {
  float of[kMaxHeadSize];
  constexpr Flips() : of() {
    for (int c = 0; c < kMaxHeadSize; c++) {
      int odd = 0;
      for (int bit = 1; bit < kMaxHeadSize; bit *= 4) odd ^= (c & bit) != 0 && (c & 2 * bit) != 0;
      of[c] = odd ? -1.f : 1.f;
    }
  }
};
alignas(64) constexpr Flips kFlips;

TS_INLINE int turned(int d) { return d & -d; }

// x [d] -> y: turned, times scale / block, which is what a product of turned rows is too large by; zeros where x is null.
TS_INLINE void turn_row(const float* x, F scale, int d, float* y) {
  const int block = turned(d);
  for (int c = 0; c < d; c += 16) store(y + c, x ? mul(load(x + c), load(kFlips.of + c)) : zero());
  for (int c = 0; c < d; c += block) transform(y + c, block, mul(scale, set1(1 / static_cast<float>(block))));
}

// block [d][16]: 16 rows, not scaled.
TS_INLINE void turn_block(float* x, int d) {
  for (int c = 0; c < d; c++) store(x + 16 * c, mul(load(x + 16 * c), set1(kFlips.of[c])));
  for (int step = 1; step < turned(d); step *= 2) butterflies(x, 16 * d, 16 * step);
}

// Row r of the tile: x [d] times scale, or zeros where x is null.
TS_INLINE void take_query(Tile<int8_t>* tile, int r, const float* x, F scale, int d) {
  alignas(64) float y[kMaxHeadSize];
  turn_row(x, scale, d, y);
  F high = zero();
  for (int c = 0; c < d; c += 16) high = max(high, abs(load(y + c)));
  const float most = reduce_max(high);
  const F factor = set1(most > 0 ? kMostCode / most : 0);
  I sum = zeroi();
  for (int c = 0; c < d; c += 16) {
    const I code = to_i32(mul(load(y + c), factor));
    sum = addi(sum, code);
    store_i8(tile->q + r * d + c, code);
  }
  tile->unit[r] = most / kMostCode;
  tile->zero[r] = -kBias8 * reduce_addi(sum);
}

// s[r][16 b + lane] = q[r] . key + log of its value for rows [row, row + R); keys [B][d/4][16][4].
template <int R, int B_>
void int_scores(const Tile<int8_t>& tile, int row, const uint8_t* keys, const float* unit, const float* log, int d,
                float* s) {
  const int8_t* q = tile.q + row * d;
  Sums acc[R][B_];
  TS_UNROLL for (int r = 0; r < R; r++) {
    TS_UNROLL for (int b = 0; b < B_; b++) acc[r][b] = begin_sums(set1i(tile.zero[row + r]));
  }
  for (int c = 0; c < d; c += 4) {
    B key[B_];
    TS_UNROLL for (int b = 0; b < B_; b++) key[b] = load_b(keys + (b * d + c) * 16);
    TS_UNROLL for (int r = 0; r < R; r++) {
      const X x = broadcast4(q + r * d + c);
      TS_UNROLL for (int b = 0; b < B_; b++) acc[r][b] = add_dots(acc[r][b], key[b], x);
    }
  }
  TS_UNROLL for (int b = 0; b < B_; b++) {
    const F key_unit = load(unit + 16 * b), value_log = load(log + 16 * b);
    TS_UNROLL for (int r = 0; r < R; r++) {
      const F sum = mul(to_f32(end_sums(acc[r][b])), key_unit);
      store(s + r * kTileKeys + 16 * b, fma(sum, set1(tile.unit[row + r]), value_log));
    }
  }
}

// o[r][16 c + lane] = old_part o + new_part sum_j p[r][j] values[j] for rows [row, row + R); values [n/4][d][4].
template <int R, int C>
void int_values(const Tile<int8_t>& tile, int row, const uint8_t* values, int n, int d, float* o) {
  const int8_t* p = tile.p + row * kTileKeys;
  Sums acc[R][C];
  TS_UNROLL for (int r = 0; r < R; r++) { TS_UNROLL for (int c = 0; c < C; c++) acc[r][c] = begin_sums(zeroi()); }
  for (int j = 0; j < n; j += 4, values += 4 * d) {
    B value[C];
    TS_UNROLL for (int c = 0; c < C; c++) value[c] = load_b(values + 64 * c);
    TS_UNROLL for (int r = 0; r < R; r++) {
      const X x = broadcast4(p + r * kTileKeys + j);
      TS_UNROLL for (int c = 0; c < C; c++) acc[r][c] = add_weighed(acc[r][c], x, value[c]);
    }
  }
  TS_UNROLL for (int r = 0; r < R; r++) {
    const F old_part = set1(tile.old_part[row + r]), new_part = set1(tile.new_part[row + r]);
    TS_UNROLL for (int c = 0; c < C; c++) {
      float* y = o + r * d + 16 * c;
      store(y, fma(to_f32(end_sums(acc[r][c])), new_part, mul(load(y), old_part)));
    }
  }
}

// 2^x, x <= 8, to 8e-5: it is rounded to 8 bits next.
TS_INLINE F weight(F x) {
  x = max(x, set1(-160));
  const F n = round(x), f = sub(x, n);
  F p = fma(set1(5.517166904e-2f), f, set1(2.426111222e-1f));
  p = fma(p, f, set1(6.932609855e-1f));
  return scale_by_power(fma(p, f, set1(9.999280735e-1f)), n);
}

// Scores of row r -> weights up to kMostWeight and their sum, both without the values' factors: part [n].
TS_INLINE void soften(Tile<int8_t>* tile, int r, int n, const float* part, uint16_t* kept) {
  constexpr float most = kMostWeight == 255 ? 7.99435344f : 6.98868469f;  // log2(kMostWeight)
  const float* s = tile->s + r * kTileKeys;
  int8_t* p = tile->p + r * kTileKeys;
  const float top = reduce_max(highest(s, n));
  tile->against[r] = top > kLowest ? top - most : kLowest;
  const F against = set1(tile->against[r]);
  F sum = zero();
  for (int j = 0; j < n; j += 16) {
    const F w = weight(sub(load(s + j), against));
    store_i8(p + j, to_i32(w));
    const F unit = load(part + j);
    sum = fma(w, unit, sum);
    if (kept) store_bf16(kept + j, mul(w, unit));
  }
  tile->fresh[r] = reduce_add(sum);
}

// The maxima and sums with those of this tile of keys, and what becomes of o.
TS_INLINE void merge(Tile<int8_t>* tile) {
  for (int r = 0; r < kTileRows; r += 16) {
    const F before = load(tile->top + r), against = load(tile->against + r), top = max(before, against);
    const F old_part = exp2(sub(before, top)), new_part = exp2(sub(against, top));
    store(tile->sum + r, fma(load(tile->sum + r), old_part, mul(load(tile->fresh + r), new_part)));
    store(tile->top + r, top);
    store(tile->old_part + r, old_part);
    store(tile->new_part + r, new_part);
  }
}

// Cache rows [from, to).
TS_INLINE void step(Tile<int8_t>* tile, const PrefillHead& head, int from, int to, int d) {
  const int n = to - from, place = from - head.base;
  const uint8_t *keys = head.keys + place * d, *values = head.values + place * d;
  const RowScales& scales = head.scales;
  for (int j = 0; j < n; j += 16 * kIntBlocks) {
    const float *unit = scales.key + place + j, *log = scales.log + place + j;
    for (int r = 0; r < tile->rows; r += kIntRows) {
      float* s = tile->s + r * kTileKeys + j;
      if (tile->rows - r <= 4) {
        int_scores<4, kIntBlocks>(*tile, r, keys + j * d, unit, log, d, s);
      } else {
        int_scores<kIntRows, kIntBlocks>(*tile, r, keys + j * d, unit, log, d, s);
      }
    }
  }
  for (int r = 0; r < tile->rows; r++) {
    mask_row(*tile, r, *head.view, from, to);
    soften(tile, r, n, scales.part + place, tile->kept ? tile->kept + r * kTileKeys : nullptr);
  }
  merge(tile);
  for (int c = 0; c < d;) {  // a slice of channels stays in the nearest cache for all rows
    const bool wide = c + 16 * kSumColumns <= d;
    for (int r = 0; r < tile->rows; r += kSumRows) {
      float* o = tile->o + r * d + c;
      if (wide) {
        int_values<kSumRows, kSumColumns>(*tile, r, values + 4 * c, n, d, o);
      } else {
        int_values<kSumRows, 1>(*tile, r, values + 4 * c, n, d, o);
      }
    }
    c += wide ? 16 * kSumColumns : 16;
  }
}

// 16 opened keys [d][16], rows [row, row + 16) of the head's: lane by lane against their largest channel.
TS_INLINE void put_keys(const PrefillHead& head, int row, float* block, int d) {
  turn_block(block, d);
  F most = zero();
  for (int c = 0; c < d; c++) most = max(most, abs(load(block + 16 * c)));
  const F unit = mul(most, set1(1 / kMostCode)), factor = select_less(zero(), most, div(set1(kMostCode), most), zero());
  store(head.scales.key + row, unit);
  uint8_t* y = head.keys + row * d;
  for (int c = 0; c < d; c += 4, y += 64) {
    I code[4];
    TS_UNROLL for (int i = 0; i < 4; i++) code[i] = to_i32(mul(load(block + 16 * (c + i)), factor));
    store_b(y, biased(byte_lanes(code[0], code[1], code[2], code[3])));
  }
}

// 16 opened values [16][d].
TS_INLINE void put_values(const PrefillHead& head, int row, const float* rows, int d) {
  uint8_t* y = head.values + row * d;
  F factor[16];
  for (int j = 0; j < 16; j++) {
    F high = zero();
    for (int c = 0; c < d; c += 16) high = max(high, abs(load(rows + j * d + c)));
    const float most = reduce_max(high), unit = most > 0 ? most / kMostCode : 1;
    head.scales.log[row + j] = __builtin_log2f(unit);
    head.scales.part[row + j] = 1 / unit;
    factor[j] = set1(1 / unit);
  }
  for (int j = 0; j < 16; j += 4) {
    for (int c = 0; c < d; c += 16, y += 64) {
      I code[4];
      TS_UNROLL for (int i = 0; i < 4; i++) code[i] = to_i32(mul(load(rows + (j + i) * d + c), factor[j + i]));
      store_b(y, byte_lanes(code[0], code[1], code[2], code[3]));
    }
  }
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA

#endif
