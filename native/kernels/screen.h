// Kernel screen: which row of matmul's output is the largest, found without reading all of the matrix. For a greedy
// decode step, of which nothing but that row is wanted: the head is the largest matrix of a small model.
//
// A q8_0 matrix is kept in two planes. Of a weight q (int8, d its block's scale) the coarse plane has the high five bits,
// the fine plane the low three: q = 8 h + l, -16 <= h < 16, 0 <= l < 8. matmul and embedding read both and give the bits
// that they give of the matrix as `pack` leaves it. screen reads the coarse plane and knows of every output
//
//   approx = sum over blocks b of d_b sum_k (8 h_k + 3.5) x_k,     |output - approx| <= reach * sum_b |d_b| |x_b|
//
// by Cauchy and Schwarz in each block of 32 columns: reach is the largest norm of l - 3.5 in a block of the row, and room
// for the rounding of all sums. Panels of 16 rows in which an output could still be the largest are computed from both
// planes, with the bits of matmul.
#pragma once

#include "kernels/matmul.h"

namespace tokensieve::kernels {

// Bytes of each plane and of the reaches; all 0 where the type has no planes (only q8_0 has).
struct PlaneBytes {
  size_t coarse, fine, reach;
};
using PlaneSizes = PlaneBytes (*)(DType type, int rows, int cols) noexcept;
// As `pack`, into the planes of w; w.data is the coarse one. The memory of all three starts zeroed.
using PackPlanes = void (*)(const void* src, const PackedMatrix& w, int row0, int row1, uint8_t* coarse, uint8_t* fine,
                            uint8_t* reach) noexcept;

struct Screened {
  int32_t row;  // of the largest output, of equals the first; -1: given up
  int32_t looked;  // rows that were computed
};
// For each token of x, 1 to kScreened: out [x.n]. Gives a token up where it would compute more than an eighth of the rows
// (and 256), or where a bound is not finite. upper (may be null, for tests: then no token is given up for its rows):
// [x.n][w.rows], what no output exceeds. scratch: x.n * (cols + 128) bytes, 64-byte aligned. How much is computed depends
// on what threads have seen of each other, the row never does.
constexpr int kScreened = 3;  // of more, all rows cost less than their bounds
using Screen = void (*)(const PackedMatrix& w, const Prepared& x, Screened* out, float* upper, void* scratch,
                        Team& team) noexcept;

}  // namespace tokensieve::kernels
