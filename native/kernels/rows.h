// Kernel rows: hidden rows that survive a cut.
//
//   gather: out[i] = x[index[i]], i < n; rows of d f32. In place (out == x, same ld) is allowed where index is ascending and index[i] >= i.
//   merge:  groups of rows fold into one: out[g] = sum_{i: into[i] == g} size[i] x[i] / sum size[i] for g < groups, out_size[g] = that sum (double accumulators in the reference).
//           into [n] values in [0, groups), every group has at least one row; a row with into[i] < 0 is dropped. A group of one row is copied bit for bit. out does not overlap x.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/pool.h"

namespace tokensieve::kernels {

using Gather = void (*)(const float* x, size_t ldx, int d, const int32_t* index, int n, float* out, size_t ldo,
                        Team& team) noexcept;
using Merge = void (*)(const float* x, size_t ldx, int d, const int32_t* into, const float* size, int n, int groups,
                       float* out, size_t ldo, float* out_size, Team& team) noexcept;

}  // namespace tokensieve::kernels
