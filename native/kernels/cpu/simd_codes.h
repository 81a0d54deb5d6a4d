// What only the cache needs of the machine: codes of 2 and 4 bits at a place known at run time, and pairs of bf16.
//
//   load_bits<mask>(p, shift)   lane i: p[i] >> shift & mask, 16 bytes
//   load_bits_twice(p, shift)   lanes 0..7: two bits of 8 bytes from bit `shift` up, lanes 8..15: the two bits above them
//   TS_ISA_BF16: store_pairs(p, even, odd) interleaves two rows; store_row(p, low, high) stores 32 bf16
#pragma once

#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

#if defined(TS_ISA_NEON)

template <int mask>
TS_INLINE F load_bits(const void* p, int shift) {
  const uint8x16_t x = vshlq_u8(vld1q_u8(at(p, 0)), vdupq_n_s8(static_cast<int8_t>(-shift)));
  return widen_u8(vandq_u8(x, vdupq_n_u8(mask)));
}
TS_INLINE F load_bits_twice(const void* p, int shift) {
  const uint8x8_t x = vld1_u8(at(p, 0));
  const int8x16_t places = vcombine_s8(vdup_n_s8(static_cast<int8_t>(-shift)), vdup_n_s8(static_cast<int8_t>(-shift - 2)));
  return widen_u8(vandq_u8(vshlq_u8(vcombine_u8(x, x), places), vdupq_n_u8(3)));
}

#else

#if defined(TS_ISA_AVX512)
TS_INLINE F widen_codes(__m128i x) { return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x))}; }
#else
TS_INLINE F widen_codes(__m128i x) { return widen_i8(x); }
#endif

TS_INLINE __m128i shift_right(__m128i x, int n) { return _mm_srl_epi16(x, _mm_cvtsi32_si128(n)); }
template <int mask>
TS_INLINE F load_bits(const void* p, int shift) {
  return widen_codes(_mm_and_si128(shift_right(load_128(p), shift), _mm_set1_epi8(mask)));
}
TS_INLINE F load_bits_twice(const void* p, int shift) {
  const __m128i x = _mm_loadl_epi64(static_cast<const __m128i*>(p));
  const __m128i both = _mm_unpacklo_epi64(shift_right(x, shift), shift_right(x, shift + 2));
  return widen_codes(_mm_and_si128(both, _mm_set1_epi8(3)));
}

#endif

#if defined(TS_ISA_BF16)
TS_INLINE void store_row(uint16_t* p, F low, F high) {
  _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(high.v, low.v));
}
TS_INLINE void store_pairs(uint16_t* p, F even, F odd) {
  const __m512i turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                        20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(odd.v, even.v);
  _mm512_storeu_si512(p, _mm512_permutexvar_epi16(turn, halves));
}
#endif

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
