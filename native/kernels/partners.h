// Kernel partners: every row of A finds the row of B that is most like it.
//
//   x[s] rows of d f32, stride ldx, for each of the 1 or 2 sides s; row i of A is row a[i] of them, row j of B is row b[j].
//   Likeness is the cosine; of two sides the product of both cosines, each 0 where it is negative. A row of zeros has 0
//   with all. rows, columns >= 1, any order, A and B may share rows.
//   partner [rows]: j, of equals the lowest. similarity [rows]: the likeness.
// Unit rows and their products in f32: 1e-6 of the exact cosine (d <= 256); equal rows give equal bits. A result depends on
// the two rows alone. scratch: partners_scratch(job, team.size()) bytes, 64-byte aligned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/pool.h"

namespace tokensieve::kernels {

struct PartnersJob {
  const float* x[2];
  int sides;
  size_t ldx;
  int d;
  const int32_t* a;
  int rows;
  const int32_t* b;
  int columns;
};

using Partners = void (*)(const PartnersJob& job, int32_t* partner, float* similarity, void* scratch,
                          Team& team) noexcept;
using PartnersScratch = size_t (*)(const PartnersJob& job, int threads) noexcept;

}  // namespace tokensieve::kernels
