// Kernel matmul: out[t][r] (+)= sum_k W[r][k] x[t][k] + bias[r], for weights W [rows][cols] of any type of core/dtype.h (not kivi*).
//
// Weights are packed once at load. The packed form belongs to the backend (cpu: panels of 16 rows, see cpu/panel.h; cuda: fragments of
// matrices of 16 rows, see cuda/weights.h; reference: GGUF rows as they are), only the same backend reads it. Activations are prepared once for every input and shared by all matrices that read it.
//
//   kind       which weights                                 arithmetic
//   int8       q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k       x in blocks of 32: q = round(x / s), s = max|x| / 127; exact int32 dot a block, f32 sums over blocks in ascending order
//   bf16       bf16 where the CPU has a bf16 dot             x rounded to bf16, f32 sums
//   f32        f32, f16; bf16 elsewhere                      f32 fused multiply-add
// The reference backend uses f32 for all and sums in double: the exact model.
// The cuda backend, by the number of tokens n:
//
//   n          which weights                                 arithmetic (of the sum of |w x|, against double)
//   <= 8       all but f32                                   x rounded to bf16 (2^-9 of each), weights exact, f32 sums (3e-6)
//   > 8        all but f32                                   x and weights rounded to bf16 (2^-9 of each), f32 sums on tensor cores (1e-5)
//   any        f32                                           f32 fused multiply-add (3e-6)
//
// One output depends only on its row of W and its row of x: never on n, on the team, or on which other rows are computed (bit for bit at one instruction
// set; cuda: but for whether n <= 8).
// rows and cols are arbitrary for f32/f16/bf16, cols is a multiple of the type's block otherwise. x, out do not overlap.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/pool.h"
#include "kernels/gate.h"

namespace tokensieve::kernels {

struct PackedMatrix {
  DType type = DType::f32;
  int rows = 0, cols = 0;
  const uint8_t* data = nullptr;  // packed_bytes(type, rows, cols), 64-byte aligned
  // Of a matrix in two planes (screen.h), of which data is the coarse one; else null.
  const uint8_t* fine = nullptr;
  const uint8_t* reach = nullptr;
};

enum class Kind : uint8_t { f32, bf16, int8 };

// n rows of activations; only what `prepare` was asked for is set. Leading dimensions: f32 ld; the others cols.
struct Prepared {
  int n = 0, cols = 0;
  const float* f32 = nullptr;  // [n][ld], the caller's own rows
  size_t ld = 0;
  uint16_t* bf16 = nullptr;  // [n][cols rounded up to 2], 16-byte aligned
  int8_t* q = nullptr;  // [n][cols], 64-byte aligned
  float* scale = nullptr;  // [n][cols / 32]
  int16_t* sum = nullptr;  // [n][cols / 16]: the sums of q over the halves of each block (q6_k scales by halves)
  float* rest = nullptr;  // [n][cols]: what is left of x beside scale * q or, without q, beside bf16; itself prepared,
      // its product added to the first one's, activations have about twice the bits
};

using PackedBytes = size_t (*)(DType type, int rows, int cols) noexcept;
using ActivationKind = Kind (*)(DType type) noexcept;
// Packs rows [row0, row1) (row0 a multiple of 16; row1 a multiple of 16 or rows) of GGUF rows into `out`, the start of the whole packed matrix.
// map (may be null): packed row r is source row map[r]. Padding rows of the last panel are zero.
using Pack = void (*)(DType type, const void* src, int rows, int cols, const int32_t* map, int row0, int row1,
                      uint8_t* out) noexcept;
// Fills the members of p that are not null from p.f32, rows in parallel.
using Prepare = void (*)(const Prepared& p, Team& team) noexcept;
// The same of what kernel rms_norm makes of the rows of p.f32, with the bits that the two would give one after the other, for who
// reads no f32 of them. weight: [cols] or null; p.rest is null. A device may have none (null); so has the reference, which reads f32.
using NormPrepare = void (*)(const Prepared& p, const float* weight, float eps, Team& team) noexcept;
// bias: [rows] or null. accumulate: out += instead of out =. out [n][ldo].
using Matmul = void (*)(const PackedMatrix& w, const Prepared& x, const float* bias, bool accumulate, float* out,
                        size_t ldo, Team& team) noexcept;
// Kernel matmul_gate: matmul and gate (kernels/gate.h) in one, with the bits that they would give one after the other. Gate rows and up
// rows of w take turns, 16 of each: its row 32 p + l is gate row 16 p + l, row 32 p + 16 + l is up row 16 p + l, for l < 16. w.rows is a
// multiple of 32; out [n][ldo] has half as many columns. bias: in the order of w's rows, or null. A device may have none (null).
using MatmulGate = void (*)(const PackedMatrix& w, const Prepared& x, const float* bias, Activation act, float* out,
                            size_t ldo, Team& team) noexcept;
// What prepare makes of matmul_gate's output, bit for bit, for who reads no f32 of it: to.cols = w.rows / 2, a multiple of 32;
// to.f32 and to.rest are null. Null where norm_prepare is.
using GatePrepare = void (*)(const PackedMatrix& w, const Prepared& x, const float* bias, Activation act,
                             const Prepared& to, Team& team) noexcept;
// Kernel embedding: out[i] = scale * W[ids[i]], dequantized exactly; 0 <= ids[i] < rows. out [n][cols].
using Embedding = void (*)(const PackedMatrix& w, const int32_t* ids, int n, float scale, float* out,
                           Team& team) noexcept;

}  // namespace tokensieve::kernels
