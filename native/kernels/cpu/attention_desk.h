// What a worker has before it while a tile of query rows walks over tiles of keys. Number is what is multiplied: float,
// bf16 (uint16_t) or int8_t.
#pragma once

#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/simd_codes.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

constexpr int kTileLanes = 32;  // kTileRows in whole registers

// Rows of the tile; those behind `rows` are not real and may hold anything.
struct TileRows {
  float* s;  // [kTileRows][kTileKeys]
  float* tops;  // [tiles of keys][kTileRows] where mass is summed: `against` of each
  float* o;  // [kTileRows][d]
  float top[kTileLanes], sum[kTileLanes];  // of o
  float against[kTileLanes];  // what was taken from the scores of this tile of keys before 2^x
  int first[kTileRows], end[kTileRows];  // what each row sees
  int rows, row0;  // query rows of the head (token * group + g)
};

template <class Number>
struct Tile : TileRows {
  using Kept = Number;  // what exponentials are kept in while mass is summed
  Number* q;  // [kTileRows][d], times scale * log2(e)
  Number* p;  // [kTileRows][kTileKeys]; for float the same memory as s
};

template <>
struct Tile<int8_t> : TileRows {
  using Kept = uint16_t;  // bf16
  int8_t* q;  // [kTileRows][d], times unit[row]
  int8_t* p;  // [kTileRows][kTileKeys], without a sign
  Kept* kept;  // [kTileRows][kTileKeys] where mass is summed: the exponentials
  float unit[kTileRows];
  int32_t zero[kTileRows];  // what sums of codes begin with
  float fresh[kTileLanes];  // sums of this tile of keys
  float old_part[kTileLanes], new_part[kTileLanes];  // of o and of this tile's products in the new o
};

// Adds the bias to the scores of row r against cache rows [from, to), and hides those that it does not see.
TS_INLINE void mask_row(const TileRows& tile, int r, const View& view, int from, int to) {
  float* s = tile.s + r * kTileKeys;
  const float* bias = view.bias ? view.bias + from : nullptr;
  const int n = to - from, rest = view.rows - from, first = tile.first[r] - from, end = tile.end[r] - from;
  for (int j = 0; bias && j < n && j < rest; j += 16) {
    const F b = rest - j < 16 ? load_part(bias + j, rest - j) : load(bias + j);
    store(s + j, fma(b, set1(kLog2e), load(s + j)));
  }
  for (int j = 0; j < first && j < n; j++) s[j] = -__builtin_inff();
  for (int j = end > 0 ? end : 0; j < n; j++) s[j] = -__builtin_inff();
}

TS_INLINE F highest(const float* s, int n) {
  F high = load(s);
  for (int j = 16; j < n; j += 16) high = max(high, load(s + j));
  return high;
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
