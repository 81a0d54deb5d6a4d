// Attention mass as a by-product of prefill: a tile of query rows keeps its exponentials, with the maximum that each of
// its rows had when they were taken; once the sums are known, one pass over them gives the probabilities' column sums.
#pragma once

#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/simd_codes.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

// Number is float or, for what is multiplied as bf16, uint16_t.
template <class Number>
struct KeptTile {
  const Number* p;  // [tiles of keys][kTileRows][kTileKeys]
  const float* tops;  // [tiles of keys][kTileRows]
  const float* top;  // [kTileRows]: the last maxima
  const float* sum;  // [kTileRows]: against them
  int rows;
};

TS_INLINE F load_numbers(const float* p) { return load(p); }
TS_INLINE F load_numbers(const uint16_t* p) { return load_bf16(p); }

// Keys of the tile that begins at k0, of those in [first, end).
TS_INLINE Range tile_keys(int k0, int first, int end) {
  return {k0 < first ? first / 32 * 32 : k0, k0 + kTileKeys < end ? k0 + kTileKeys : up(end, 32) * 32};
}

// factor[r]: what turns row r's exponentials against `tops` into probabilities, times `share`; [32].
template <class Number>
void factors_of(const KeptTile<Number>& tile, const float* tops, float share, float* factor) {
  constexpr int rest = kTileRows - 16;
  store(factor, exp2(sub(load(tops), load(tile.top))));
  store(factor + 16, exp2(sub(load_part(tops + 16, rest), load_part(tile.top + 16, rest))));
  for (int r = 0; r < tile.rows; r++) factor[r] *= tile.sum[r] > 0 ? share / tile.sum[r] : 0;
}

// line[j] += share times the sum over the tile's query rows of the probability of cache row j; they see some of `seen`.
template <class Number>
void add_mass(const KeptTile<Number>& tile, const Range& seen, float share, float* line) {
  const Number* p = tile.p;
  const float* tops = tile.tops;
  for (int k0 = seen.lo / kTileKeys * kTileKeys; k0 < seen.hi; k0 += kTileKeys) {
    const Range keys = tile_keys(k0, seen.lo, seen.hi);
    float factor[32];
    factors_of(tile, tops, share, factor);
    float* y = line + keys.lo;
    for (int j = 0; j < keys.hi - keys.lo; j += 32, y += 32) {
      F a = load(y), b = load(y + 16);
      for (int r = 0; r < tile.rows; r++) {
        const F f = set1(factor[r]);
        a = fma(f, load_numbers(p + r * kTileKeys + j), a);
        b = fma(f, load_numbers(p + r * kTileKeys + j + 16), b);
      }
      store(y, a);
      store(y + 16, b);
    }
    p += kTileRows * kTileKeys;
    tops += kTileRows;
  }
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
