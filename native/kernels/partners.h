// Kernel partners: a bipartite match of rows by direction. Of the rows x[at[0]], x[at[1]], … those with even i are A and
// those with odd i are B; every row of A finds the row of B with the largest cosine.
//
//   x rows of d f32, stride ldx; at [n], n >= 2, any order. partner [(n + 1) / 2]: j, where row j of B is x[at[2 j + 1]];
//   of equals the lowest. similarity [(n + 1) / 2]: the cosine; a row of zeros has 0 with all.
// Unit rows and their products in f32: 1e-6 of the exact cosine (d <= 256); equal rows give equal bits. A result depends on
// the two rows alone. scratch: partners_scratch(n, d, team.size()) bytes, 64-byte aligned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/pool.h"

namespace tokensieve::kernels {

using Partners = void (*)(const float* x, size_t ldx, int d, const int32_t* at, int n, int32_t* partner,
                          float* similarity, void* scratch, Team& team) noexcept;
using PartnersScratch = size_t (*)(int n, int d, int threads) noexcept;

}  // namespace tokensieve::kernels
