// 16 lanes of f32 (and int32) on every instruction set: one zmm, two ymm, or four q registers. Each unit that includes
// this is compiled with its own flags; everything here is in an anonymous namespace inside namespace TS_ISA, so that no
// unit can share code with another (the linker would merge it). No std:: here, nor in the units that include this.
//
//   F  16 f32    zero() set1(x) load(p) store(p, v) load_part(p, n) store_part(p, v, n)   n < 16 lanes, others 0
//                add sub mul div min max abs sqrt  fma(a, b, c) = a b + c  fnma(a, b, c) = c - a b  round (to even)
//                select_less(a, b, x, y): a < b ? x : y      reduce_add reduce_max reduce_min (a fixed tree)
//                hadamard16: the lanes times the Hadamard matrix of 16
//                load_f16 load_bf16 load_i8 load_u8 (16 values of memory)  load_u4lo load_u4hi (nibbles of 16 bytes)
//                store_f16 store_bf16 (round to nearest even)   f16_at(p): one number, a float
//                exp2(x) exp(x): relative error <= 2e-7 where the result is normal; 0 far below, infinity far above
//   I  16 int32  zeroi() set1i(x) loadi(p) storei(p, v) addi subi muli mini maxi  to_f32(I) to_i32(F) (nearest even)
//                pair_sums(p): of 32 int16  reduce_addi  store_i8(p, I), |lane| <= 127
//   B  64 bytes  load_b(p) set1b(byte) and_b or_b xor_b  select_b(mask, a, b): the bits of a where the mask has 1, else of b   shr_b<n> shl_b<n> (of 16-bit units: mask what crosses a byte)
//   X  4 int8 activations in every lane: broadcast4(p)
//                Dots<bits>: exact sums of code times activation, four products in every lane. S begin(I acc), then
//                S add(S, B w, X x) at most kRun times, then I end(I acc, S): acc[lane] += sum w[4 lane + j] x[j].
//                bits 4, 5, 6: w in 0..2^bits - 1; 8: w is q + kBias8 (0 where the machine multiplies signed bytes), q
//                int8, and the sum is that of (q + kBias8) x. x >= -127.
//                half_sums(p, a, b): every lane = a p[0] + b p[1], p two int16 (sums of two halves of a block)
//   Sums  int32 lanes of dots as Dots<8>'s, where those are instructions (TS_ISA_INTS): begin_sums(I) end_sums(s)
//                add_dots(s, B w, X x), w with kBias8   add_weighed(s, X p, B w), 0 <= p <= kMostWeight, w without
//                byte_lanes(I a, I b, I c, I d): lane i is the bytes a[i] b[i] c[i] d[i], each within -128..127
//   H  16 pairs of bf16, TS_ISA_BF16 only: load_h(p) broadcast_h(p) dot_bf16(F acc, H w, H x)
#pragma once

#include <cstddef>
#include <cstdint>

#define TS_INLINE inline __attribute__((always_inline))
#define TS_UNROLL _Pragma("GCC unroll 16")

#if defined(TS_ISA_AVX512) || defined(TS_ISA_DOTPROD)
#define TS_ISA_INTS
#endif

#if defined(TS_ISA_AVX512)
#include "kernels/cpu/simd_avx512.h"
#elif defined(TS_ISA_AVX2)
#include "kernels/cpu/simd_avx2.h"
#elif defined(TS_ISA_NEON)
#include "kernels/cpu/simd_neon.h"
#else
#error "an instruction set is needed: see add_isa in CMakeLists.txt"
#endif

namespace tokensieve::kernels::TS_ISA {
namespace {

// 2^f - 1 over f, |f| <= 1/2, to 5e-9: 2^0 is exactly 1.
TS_INLINE F exp2_fraction(F f) {
  F p = fma(set1(1.54531629e-4f), f, set1(1.33908634e-3f));
  p = fma(p, f, set1(9.61808256e-3f));
  p = fma(p, f, set1(5.55035711e-2f));
  p = fma(p, f, set1(2.40226508e-1f));
  p = fma(p, f, set1(6.93147188e-1f));
  return fma(p, f, set1(1));
}

TS_INLINE F exp2(F x) {
  x = min(max(x, set1(-160)), set1(130));
  const F n = round(x);
  return scale_by_power(exp2_fraction(sub(x, n)), n);
}

// The fraction is formed against ln 2 in two parts: x log2(e) alone would lose |x| ulps.
TS_INLINE F exp(F x) {
  x = min(max(x, set1(-110)), set1(90));
  const F n = round(mul(x, set1(1.44269504f)));
  const F r = fnma(n, set1(-2.12194440e-4f), fnma(n, set1(0.693359375f), x));
  return scale_by_power(exp2_fraction(mul(r, set1(1.44269504f))), n);
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
