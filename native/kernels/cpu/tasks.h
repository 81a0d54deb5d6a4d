// How the small kernels cut rows into tasks: by shape alone, never by the team, and not at all where waking a thread
// would cost more than the work.
#pragma once

#include <cstddef>

#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

constexpr size_t kAloneElements = 16384, kTaskElements = 8192;

// `width`: elements of one row. All rows where they are few.
TS_INLINE int rows_per_task(int rows, size_t width) {
  if (rows < 2 || static_cast<size_t>(rows) * width < kAloneElements) return rows > 0 ? rows : 1;
  return width < kTaskElements ? static_cast<int>(kTaskElements / width) : 1;
}

TS_INLINE int tasks_of(int rows, int per_task) { return (rows + per_task - 1) / per_task; }

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
