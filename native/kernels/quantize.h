// Kernel quantize: rows of numbers between f32 and the types of core/dtype.h, in GGUF's block layout.
//
//   dequantize: every type but kivi*; exact (each value is the nearest f32 of the format's own formula).
//   quantize:   f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1; round to nearest, ties to even for f16/bf16 and codes;
//               q8_0: scale = max|x| / 127; q4_0, q5_0: scale = (the value of largest magnitude) / -8, / -16; q4_1, q5_1: minimum and (max - min) / 15, / 31.
//               An all-zero block stores scale 0 and the codes of zero. NaN and infinity are not allowed.
// n is a multiple of the type's block. src and dst do not overlap; no alignment is asked for.
#pragma once

#include <cstddef>

#include "core/dtype.h"
#include "core/pool.h"

namespace tokensieve::kernels {

using Dequantize = void (*)(DType type, const void* src, size_t n, float* dst, Team& team) noexcept;
using Quantize = void (*)(DType type, const float* src, size_t n, void* dst, Team& team) noexcept;

}  // namespace tokensieve::kernels
