// Kernel kv_page: how the rows of one KV head lie in memory, and how they get there.
//
// A page holds kPageRows rows of one side (keys or values) of one KV head of one layer, in one type. Keys are stored so
// that 16 keys lie side by side (a score needs one broadcast query channel and 16 keys), values row by row; codes lie
// in fours, as the dots of bytes take them: 4 channels of a key, 4 rows of a value channel:
//
//   type           key page                                       value page
//   f32 f16 bf16   [2][head_size][16]                             [32][head_size]
//   q8_0           code + 128: [2][head_size/4][16][4]            code + 128: [head_size/32][8][32][4]
//   q4_0 kivi4     [head_size/4][16][4]: row r (< 16) in the      [head_size/32][8][16][4]: channel c (c % 32 < 16)
//                  low nibble, row r + 16 in the high one         low nibble, c + 16 high; q4_0: code + 8
//   kivi2          [head_size/8][16][4]: from bit 0 up row r      [head_size/32][4][16][4]: from bit 0 up channels
//                  and row r + 16 of a channel, then the same     c and c + 16 of a row, then the same of the row
//                  of the channel 4 further                       4 further
//   q8_0 q4_0      f16 scale [2][head_size/32][16]                f16 scale [head_size/32][32]
//   kivi4 kivi2    f16 scale [head_size], f16 min [head_size]     f16 scale, f16 min [head_size/32][32]
//
// [2]: blocks of 16 rows; [8], [4]: of the 32 rows, 4 or 8 at a time. All codes of a page come first, then its scales,
// then its minima.
// head_size is a multiple of 16; of 32 for quantized types. Quantizers: q8_0, q4_0 as in quantize.h; kivi: asymmetric,
// with the minimum of the group and (max - min) / (2^bits - 1), half to even.
// A kivi key page is quantized as a whole from 32 float rows (store_kivi_keys); every other form row by row.
//
// Pages are 64-byte aligned. Jobs of one call write different pages, or different rows
// of them that share no byte (values; keys of float types). None allocates. A value read back is the exact value of
// the stored code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/pool.h"

namespace tokensieve::kernels {

constexpr int kPageRows = 32;

enum class Side : uint8_t { keys, values };

// Rows [first, first + count) of a page, as attention reads them.
struct Piece {
  const uint8_t* page;
  int16_t first, count;
  DType type;
};

using PageBytes = size_t (*)(Side side, DType type, int head_size) noexcept;  // a multiple of 64
// x [n][ldx] f32 -> rows [first, first + n) of the page. Not for kivi keys.
struct StoreJob {
  Side side;
  DType type;
  const float* x;
  size_t ldx;
  int n;
  uint8_t* page;
  int first;
};
using StoreRows = void (*)(int head_size, const StoreJob* jobs, int count, Team& team) noexcept;
// Quantizes all 32 rows of x [32][ldx] into a kivi key page.
using StoreKiviKeys = void (*)(DType type, int head_size, const float* x, size_t ldx, uint8_t* page,
                               Team& team) noexcept;
// Rows of a page -> f32 y [count][ldy].
using LoadRows = void (*)(Side side, int head_size, Piece piece, float* y, size_t ldy, Team& team) noexcept;
// Moves one row bit for bit between pages of one type (not kivi keys): compaction after eviction.
using CopyRow = void (*)(Side side, DType type, int head_size, const uint8_t* from, int from_row, uint8_t* to,
                         int to_row, Team& team) noexcept;

}  // namespace tokensieve::kernels
