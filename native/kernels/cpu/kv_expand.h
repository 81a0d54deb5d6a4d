// Pages opened into f32: blocks of 16 keys side by side, rows of values.
#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {

// A place in a list of pieces: `row` rows from the start of pieces[piece] on, perhaps beyond its end.
struct Cursor {
  int piece = 0, row = 0;
};
// The same place inside a piece; there must be a row.
namespace {
TS_INLINE Cursor settle(const Piece* pieces, Cursor at) noexcept {
  while (at.row >= pieces[at.piece].count) at.row -= pieces[at.piece++].count;
  return at;
}
}  // namespace

// 16 keys of a page -> out [head_size][16].
void open_key_block(DType type, int head_size, const uint8_t* page, int block, float* out) noexcept;
// Rows of a value page -> out [count][ld].
void open_value_rows(DType type, int head_size, const uint8_t* page, int first, int count, float* out,
                     size_t ld) noexcept;

// Cache rows [row, row + n) (n <= 16, row a multiple of 16, at `at`) of a head's keys -> out [head_size][16], rotated
// where the shape says so. Lanes from n on hold anything.
Cursor open_keys(const AttentionShape& shape, const View& view, Cursor at, int row, int n, float* out) noexcept;
// The next n rows of a head's values -> out [n][head_size].
Cursor open_values(const View& view, int head_size, Cursor at, int n, float* out) noexcept;

}  // namespace tokensieve::kernels::TS_ISA
