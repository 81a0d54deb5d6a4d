// What only the cache needs of the machine: codes of 2 and 4 bits, and pairs of bf16.
//
//   fours(p)                   16 lanes of 4 bytes each
//   field<bits, zero>(I, shift) (lane >> shift & mask) - zero
//   TS_ISA_BF16: store_pairs(p, even, odd) interleaves two rows; store_row(p, low, high) stores 32 bf16
#pragma once

#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

#if defined(TS_ISA_AVX512)

TS_INLINE I fours(const void* p) { return {_mm512_loadu_si512(p)}; }
// A table of 16 numbers looks at 4 bits only: neither a mask nor a conversion is needed.
template <int bits, int zero>
TS_INLINE F field(I x, int shift) {
  constexpr int m = (1 << bits) - 1;
  if constexpr (bits == 8) {
    const __m512i code = _mm512_and_si512(_mm512_srl_epi32(x.v, _mm_cvtsi32_si128(shift)), _mm512_set1_epi32(m));
    return {_mm512_cvtepi32_ps(_mm512_sub_epi32(code, _mm512_set1_epi32(zero)))};
  }
  const __m512 table =
      _mm512_setr_ps((0 & m) - zero, (1 & m) - zero, (2 & m) - zero, (3 & m) - zero, (4 & m) - zero, (5 & m) - zero,
                     (6 & m) - zero, (7 & m) - zero, (8 & m) - zero, (9 & m) - zero, (10 & m) - zero, (11 & m) - zero,
                     (12 & m) - zero, (13 & m) - zero, (14 & m) - zero, (15 & m) - zero);
  return {_mm512_permutexvar_ps(_mm512_srl_epi32(x.v, _mm_cvtsi32_si128(shift)), table)};
}

#elif defined(TS_ISA_AVX2)

TS_INLINE I fours(const void* p) { return {load_256(p), load_256(at(p, 32))}; }
template <int bits, int zero>
TS_INLINE F field(I x, int shift) {
  const __m128i n = _mm_cvtsi32_si128(shift);
  const __m256i mask = _mm256_set1_epi32((1 << bits) - 1);
  const I code = {_mm256_and_si256(_mm256_srl_epi32(x.a, n), mask), _mm256_and_si256(_mm256_srl_epi32(x.b, n), mask)};
  return zero ? sub(to_f32(code), set1(zero)) : to_f32(code);
}

#else

TS_INLINE I fours(const void* p) { TS_QUARTERS(I, vreinterpretq_s32_u8(vld1q_u8(at(p, 16 * i)))); }
template <int bits, int zero>
TS_INLINE F field(I x, int shift) {
  const int32x4_t n = vdupq_n_s32(-shift), mask = vdupq_n_s32((1 << bits) - 1);
  I code;
  TS_UNROLL for (int i = 0; i < 4; i++) code.v[i] = vandq_s32(vshlq_s32(x.v[i], n), mask);
  return zero ? sub(to_f32(code), set1(zero)) : to_f32(code);
}

#endif

#if defined(TS_ISA_BF16)
TS_INLINE void store_row(uint16_t* p, F low, F high) {
  _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(high.v, low.v));
}
TS_INLINE void store_pairs(uint16_t* p, F even, F odd) {
  const __m512i turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                        5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(odd.v, even.v);
  _mm512_storeu_si512(p, _mm512_permutexvar_epi16(turn, halves));
}
#endif

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
