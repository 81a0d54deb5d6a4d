// simd.h for AVX2 + FMA + F16C: two registers of everything, a low and a high half.
#pragma once

#include <immintrin.h>

namespace tokensieve::kernels::TS_ISA {
namespace {

struct F {
  __m256 a, b;
};
struct I {
  __m256i a, b;
};
struct B {
  __m256i a, b;
};
struct X {
  __m256i v;
};

// -1 in the first n of 16 lanes.
TS_INLINE __m256i first_lanes(int n, int from) {
  const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(from));
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
}

TS_INLINE F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
TS_INLINE F set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
TS_INLINE F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
TS_INLINE void store(float* p, F x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
TS_INLINE F load_part(const float* p, int n) {
  return {_mm256_maskload_ps(p, first_lanes(n, 0)), _mm256_maskload_ps(p + 8, first_lanes(n, 8))};
}
TS_INLINE void store_part(float* p, F x, int n) {
  _mm256_maskstore_ps(p, first_lanes(n, 0), x.a);
  _mm256_maskstore_ps(p + 8, first_lanes(n, 8), x.b);
}
TS_INLINE F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
TS_INLINE F sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
TS_INLINE F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
TS_INLINE F div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
TS_INLINE F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
TS_INLINE F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
TS_INLINE F abs(F x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
TS_INLINE F sqrt(F x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
TS_INLINE F fma(F x, F y, F c) { return {_mm256_fmadd_ps(x.a, y.a, c.a), _mm256_fmadd_ps(x.b, y.b, c.b)}; }
TS_INLINE F fnma(F x, F y, F c) { return {_mm256_fnmadd_ps(x.a, y.a, c.a), _mm256_fnmadd_ps(x.b, y.b, c.b)}; }
TS_INLINE F round(F x) {
  return {_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
TS_INLINE F select_less(F x, F y, F yes, F no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
// Lanes whose bit is 0 become the sum of a pair, the others the difference.
template <int bits>
TS_INLINE __m256 sums_and_differences(__m256 x, __m256 other) {
  return _mm256_blend_ps(_mm256_add_ps(x, other), _mm256_sub_ps(other, x), bits);
}
TS_INLINE __m256 hadamard8(__m256 x) {
  x = sums_and_differences<0xaa>(x, _mm256_permute_ps(x, 0xb1));
  x = sums_and_differences<0xcc>(x, _mm256_permute_ps(x, 0x4e));
  return sums_and_differences<0xf0>(x, _mm256_permute2f128_ps(x, x, 1));
}
TS_INLINE F hadamard16(F x) {
  const __m256 a = hadamard8(x.a), b = hadamard8(x.b);
  return {_mm256_add_ps(a, b), _mm256_sub_ps(a, b)};
}
TS_INLINE float reduce_add(F x) {
  const __m256 h = _mm256_add_ps(x.a, x.b);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
TS_INLINE float reduce_max(F x) {
  const __m256 h = _mm256_max_ps(x.a, x.b);
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
TS_INLINE float reduce_min(F x) {
  const __m256 h = _mm256_min_ps(x.a, x.b);
  __m128 q = _mm_min_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_min_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_min_ss(q, _mm_movehdup_ps(q)));
}
// x 2^n in two steps, so that results below the normal range and above the largest come out as they should.
TS_INLINE __m256 scale_by_power(__m256 x, __m256 n) {
  const __m256i power = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(power, 1), one = _mm256_set1_epi32(127);
  const __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, one), 23);
  const __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(power, half), one), 23);
  return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}
TS_INLINE F scale_by_power(F x, F n) { return {scale_by_power(x.a, n.a), scale_by_power(x.b, n.b)}; }

TS_INLINE __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
TS_INLINE __m128i load_128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
TS_INLINE void store_256(void* p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
TS_INLINE void store_128(void* p, __m128i x) { _mm_storeu_si128(static_cast<__m128i*>(p), x); }
TS_INLINE const void* at(const void* p, int bytes) { return static_cast<const uint8_t*>(p) + bytes; }
TS_INLINE void* at(void* p, int bytes) { return static_cast<uint8_t*>(p) + bytes; }

TS_INLINE float f16_at(const void* p) {
  uint16_t h;
  __builtin_memcpy(&h, p, 2);
  return _cvtsh_ss(h);
}
TS_INLINE F load_f16(const void* p) { return {_mm256_cvtph_ps(load_128(p)), _mm256_cvtph_ps(load_128(at(p, 16)))}; }
TS_INLINE __m256 widen_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
TS_INLINE F load_bf16(const void* p) { return {widen_bf16(load_128(p)), widen_bf16(load_128(at(p, 16)))}; }
TS_INLINE F widen_i8(__m128i x) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x)))};
}
TS_INLINE F load_i8(const void* p) { return widen_i8(load_128(p)); }
TS_INLINE F load_u8(const void* p) {
  const __m128i x = load_128(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x)),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(x, x)))};
}
TS_INLINE F load_u4lo(const void* p) { return widen_i8(_mm_and_si128(load_128(p), _mm_set1_epi8(15))); }
TS_INLINE F load_u4hi(const void* p) {
  return widen_i8(_mm_and_si128(_mm_srli_epi16(load_128(p), 4), _mm_set1_epi8(15)));
}
TS_INLINE void store_f16(void* p, F x) {
  store_128(p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  store_128(at(p, 16), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
TS_INLINE __m256i narrow_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  rounded = _mm256_srli_epi32(rounded, 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
}
TS_INLINE void store_bf16(void* p, F x) {
  const __m256i packed = _mm256_packus_epi32(narrow_bf16(x.a), narrow_bf16(x.b));
  store_256(p, _mm256_permute4x64_epi64(packed, 0xd8));
}

TS_INLINE I zeroi() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
TS_INLINE I set1i(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
TS_INLINE I loadi(const int32_t* p) { return {load_256(p), load_256(p + 8)}; }
TS_INLINE void storei(int32_t* p, I x) {
  store_256(p, x.a);
  store_256(p + 8, x.b);
}
TS_INLINE I addi(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
TS_INLINE I subi(I x, I y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
TS_INLINE I muli(I x, I y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
TS_INLINE I mini(I x, I y) { return {_mm256_min_epi32(x.a, y.a), _mm256_min_epi32(x.b, y.b)}; }
TS_INLINE I maxi(I x, I y) { return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
TS_INLINE F to_f32(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
TS_INLINE I to_i32(F x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
TS_INLINE int32_t reduce_addi(I x) {
  const __m256i h = _mm256_add_epi32(x.a, x.b);
  __m128i q = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
}
TS_INLINE I pair_sums(const int16_t* p) {
  return {_mm256_madd_epi16(load_256(p), _mm256_set1_epi16(1)),
          _mm256_madd_epi16(load_256(p + 16), _mm256_set1_epi16(1))};
}
TS_INLINE void store_i8(void* p, I x) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
  store_128(p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

TS_INLINE B load_b(const void* p) { return {load_256(p), load_256(at(p, 32))}; }
TS_INLINE void store_b(void* p, B x) {
  store_256(p, x.a);
  store_256(at(p, 32), x.b);
}
TS_INLINE B set1b(int x) { return {_mm256_set1_epi8(static_cast<char>(x)), _mm256_set1_epi8(static_cast<char>(x))}; }
TS_INLINE B and_b(B x, B y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
TS_INLINE B or_b(B x, B y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
TS_INLINE B xor_b(B x, B y) { return {_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)}; }
TS_INLINE B select_b(B mask, B x, B y) {
  return {_mm256_or_si256(_mm256_and_si256(mask.a, x.a), _mm256_andnot_si256(mask.a, y.a)),
          _mm256_or_si256(_mm256_and_si256(mask.b, x.b), _mm256_andnot_si256(mask.b, y.b))};
}
template <int n>
TS_INLINE B shr_b(B x) {
  return {_mm256_srli_epi16(x.a, n), _mm256_srli_epi16(x.b, n)};
}
template <int n>
TS_INLINE B shl_b(B x) {
  return {_mm256_slli_epi16(x.a, n), _mm256_slli_epi16(x.b, n)};
}

constexpr int kBias8 = 0;

TS_INLINE int32_t four_bytes(const void* p) {
  int32_t x;
  __builtin_memcpy(&x, p, 4);
  return x;
}
TS_INLINE X broadcast4(const void* p) { return {_mm256_set1_epi32(four_bytes(p))}; }
TS_INLINE __m256i add_pairs(__m256i acc, __m256i words) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
}
// g++ would regroup the sums of integers into trees, whose leaves do not fit the registers.
template <class S>
TS_INLINE void keep_order(S& s) {
  __asm__("" : "+x"(s.a), "+x"(s.b));
}
// Sums of two products of vpmaddubsw stay in 16 bits for a run of groups: 8 (2 * 15 * 127), 4 (2 * 31 * 127) or
// 2 (2 * 63 * 127) of them are below 2^15.
template <int bits>
struct Dots {
  struct S {
    __m256i a, b;
  };
  static constexpr int kRun = 1 << (7 - bits);
  static TS_INLINE S begin(I) { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static TS_INLINE S add(S s, B w, X x) {
    s.a = _mm256_add_epi16(s.a, _mm256_maddubs_epi16(w.a, x.v));
    s.b = _mm256_add_epi16(s.b, _mm256_maddubs_epi16(w.b, x.v));
    keep_order(s);
    return s;
  }
  static TS_INLINE I end(I acc, S s) { return {add_pairs(acc.a, s.a), add_pairs(acc.b, s.b)}; }
};
// Eight bits: |w| (up to 128) as the unsigned side, its sign moved to x (never -128): 2 * 128 * 127 does not saturate.
// vpsignb would be one operation of the two ports that products need; these two have four to choose from.
TS_INLINE __m256i negative(__m256i w) { return _mm256_cmpgt_epi8(_mm256_setzero_si256(), w); }
TS_INLINE __m256i negate_where(__m256i x, __m256i mask) { return _mm256_sub_epi8(_mm256_xor_si256(x, mask), mask); }
template <>
struct Dots<8> {
  using S = I;
  static constexpr int kRun = 8;
  static TS_INLINE S begin(I acc) { return acc; }
  static TS_INLINE S add(S s, B w, X x) {
    const __m256i a = negative(w.a), b = negative(w.b);
    s.a = add_pairs(s.a, _mm256_maddubs_epi16(_mm256_abs_epi8(w.a), negate_where(x.v, a)));
    s.b = add_pairs(s.b, _mm256_maddubs_epi16(_mm256_abs_epi8(w.b), negate_where(x.v, b)));
    keep_order(s);
    return s;
  }
  static TS_INLINE I end(I, S s) { return s; }
};
TS_INLINE I half_sums(const int16_t* p, int a, int b) {
  const int32_t factors = static_cast<int32_t>(static_cast<uint32_t>(a & 0xffff) | static_cast<uint32_t>(b) << 16);
  const __m256i sums = _mm256_madd_epi16(_mm256_set1_epi32(four_bytes(p)), _mm256_set1_epi32(factors));
  return {sums, sums};
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
