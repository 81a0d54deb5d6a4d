// Kernel kv_change: what happens to rows that lie in pages already: they move together after an eviction, are packed into
// another type, fold into others, or leave a page that is shared.
//
// A program is a list of operations, done one after the other, with a scratch of its own: f32 rows [kPageRows][head_size]
// and sums in double [head_size], zero at first. Programs of one call are done in any order or at once: none reads or
// writes what another one writes.
//
//   copy   `lines` times 64 bytes of a page to another one, whatever they hold
//   move   rows [from_row, +count) of a page to rows [to_row, +count) of another one of the same type, bit for bit, or of
//          the same one: then as if all were read first. Not kivi keys
//   load   rows [from_row, +count) of a page -> scratch rows [to_row, +count), exactly what their codes say
//   take   f32 rows [count][head_size] at `from` -> scratch rows [to_row, +count)
//   give   scratch rows [from_row, +count) -> f32 rows [count][head_size] at `to`
//   store  scratch rows [from_row, +count) -> rows [to_row, +count) of a page, as store_rows does. Not kivi keys
//   group  scratch rows [from_row, +count) -> these rows of a page of kivi keys, as store_kivi_keys does of all 32: rows
//          before them are as the first one, rows behind them as the last
//   add    sums += weight times row from_row of a page, in double
//   mix    scratch row to_row = weight times row from_row of a page + sums, in double; the sums are 0 again
#pragma once

#include "kernels/kv_page.h"

namespace tokensieve::kernels {

struct PageOp {
  enum class Kind : uint8_t { copy, move, load, take, give, store, group, add, mix };
  const uint8_t* from;  // a page, of take f32 rows
  union {
    uint8_t* to;  // a page, of give f32 rows
    float weight;  // of add and mix
  };
  Kind kind;
  Side side;  // of the page; the same of its type
  DType type;
  uint8_t from_row, to_row, count;
  uint16_t lines;
};

// Program p is ops [ends[p - 1], ends[p]). head_size up to 256.
using ChangePages = void (*)(int head_size, const PageOp* ops, const int32_t* ends, int programs, Team& team) noexcept;

}  // namespace tokensieve::kernels
