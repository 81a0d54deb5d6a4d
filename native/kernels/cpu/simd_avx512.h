// simd.h for AVX-512 with VNNI: one register of everything.
#pragma once

#if defined(__clang__)
#include <immintrin.h>
#else  // g++ 12 takes the deliberately undefined operands of its own intrinsics for mistakes
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace tokensieve::kernels::TS_ISA {
namespace {

struct F {
  __m512 v;
};
struct I {
  __m512i v;
};
struct B {
  __m512i v;
};
struct X {
  __m512i v;
};

TS_INLINE __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }

TS_INLINE F zero() { return {_mm512_setzero_ps()}; }
TS_INLINE F set1(float x) { return {_mm512_set1_ps(x)}; }
TS_INLINE F load(const float* p) { return {_mm512_loadu_ps(p)}; }
TS_INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
TS_INLINE F load_part(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
TS_INLINE void store_part(float* p, F a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.v); }
TS_INLINE F add(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
TS_INLINE F sub(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
TS_INLINE F mul(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
TS_INLINE F div(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
TS_INLINE F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
TS_INLINE F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
TS_INLINE F abs(F a) { return {_mm512_abs_ps(a.v)}; }
TS_INLINE F sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
TS_INLINE F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
TS_INLINE F fnma(F a, F b, F c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
TS_INLINE F round(F a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
TS_INLINE F select_less(F a, F b, F x, F y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
TS_INLINE float reduce_add(F a) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
TS_INLINE float reduce_max(F a) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
TS_INLINE float reduce_min(F a) {
  const __m256 h = _mm256_min_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_min_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_min_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_min_ss(q, _mm_movehdup_ps(q)));
}
// Lane i: the largest lane of a[i]. Each step lays two registers' halves over each other, as a transposition would.
TS_INLINE __m512 max_of_pairs(__m512 a, __m512 b) {
  return _mm512_max_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}
TS_INLINE F max_of_each(const F (&a)[16]) {
  __m512 b[8], c[4], d[2];
  TS_UNROLL for (int i = 0; i < 8; i++) b[i] = max_of_pairs(a[2 * i].v, a[2 * i + 1].v);
  TS_UNROLL for (int i = 0; i < 4; i++) c[i] = max_of_pairs(b[2 * i], b[2 * i + 1]);
  TS_UNROLL for (int i = 0; i < 2; i++) {
    const __m512 x = c[2 * i], y = c[2 * i + 1];
    d[i] = _mm512_max_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
  }
  return {_mm512_max_ps(_mm512_shuffle_f32x4(d[0], d[1], 0x88), _mm512_shuffle_f32x4(d[0], d[1], 0xdd))};
}
// Lanes whose bit is 0 become the sum of a pair, the others the difference.
TS_INLINE __m512 sums_and_differences(__m512 x, __m512 other, __mmask16 bits) {
  return _mm512_mask_sub_ps(_mm512_add_ps(x, other), bits, other, x);
}
TS_INLINE F hadamard16(F a) {
  __m512 x = sums_and_differences(a.v, _mm512_permute_ps(a.v, 0xb1), 0xaaaa);
  x = sums_and_differences(x, _mm512_permute_ps(x, 0x4e), 0xcccc);
  x = sums_and_differences(x, _mm512_shuffle_f32x4(x, x, 0xb1), 0xf0f0);
  return {sums_and_differences(x, _mm512_shuffle_f32x4(x, x, 0x4e), 0xff00)};
}
TS_INLINE F scale_by_power(F a, F n) { return {_mm512_scalef_ps(a.v, n.v)}; }

TS_INLINE __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
TS_INLINE __m128i load_128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
TS_INLINE float f16_at(const void* p) {
  uint16_t h;
  __builtin_memcpy(&h, p, 2);
  return _cvtsh_ss(h);
}
TS_INLINE F load_f16(const void* p) { return {_mm512_cvtph_ps(load_256(p))}; }
TS_INLINE F load_bf16(const void* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_256(p)), 16))};
}
TS_INLINE F load_i8(const void* p) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_128(p)))}; }
TS_INLINE F load_u8(const void* p) { return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_128(p)))}; }
TS_INLINE F load_u4lo(const void* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_and_si128(load_128(p), _mm_set1_epi8(15))))};
}
TS_INLINE F load_u4hi(const void* p) {
  const __m128i high = _mm_and_si128(_mm_srli_epi16(load_128(p), 4), _mm_set1_epi8(15));
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(high))};
}
TS_INLINE void store_f16(void* p, F a) {
  const __m256i h = _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(static_cast<__m256i*>(p), h);
}
TS_INLINE void store_bf16(void* p, F a) {
  const __m512i bits = _mm512_castps_si512(a.v), high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  rounded = _mm512_srli_epi32(rounded, 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}

TS_INLINE I zeroi() { return {_mm512_setzero_si512()}; }
TS_INLINE I set1i(int32_t x) { return {_mm512_set1_epi32(x)}; }
TS_INLINE I loadi(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
TS_INLINE void storei(int32_t* p, I a) { _mm512_storeu_si512(p, a.v); }
TS_INLINE I addi(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
TS_INLINE I subi(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
TS_INLINE I muli(I a, I b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
TS_INLINE I mini(I a, I b) { return {_mm512_min_epi32(a.v, b.v)}; }
TS_INLINE I maxi(I a, I b) { return {_mm512_max_epi32(a.v, b.v)}; }
TS_INLINE F to_f32(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
TS_INLINE I to_i32(F a) { return {_mm512_cvtps_epi32(a.v)}; }
TS_INLINE int32_t reduce_addi(I a) {
  const __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(a.v), _mm512_extracti64x4_epi64(a.v, 1));
  __m128i q = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
}
TS_INLINE I pair_sums(const int16_t* p) { return {_mm512_madd_epi16(_mm512_loadu_si512(p), _mm512_set1_epi16(1))}; }
TS_INLINE void store_i8(void* p, I a) { _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v)); }

TS_INLINE B load_b(const void* p) { return {_mm512_loadu_si512(p)}; }
TS_INLINE void store_b(void* p, B a) { _mm512_storeu_si512(p, a.v); }
TS_INLINE B set1b(int x) { return {_mm512_set1_epi8(static_cast<char>(x))}; }
TS_INLINE B and_b(B a, B b) { return {_mm512_and_si512(a.v, b.v)}; }
TS_INLINE B or_b(B a, B b) { return {_mm512_or_si512(a.v, b.v)}; }
TS_INLINE B xor_b(B a, B b) { return {_mm512_xor_si512(a.v, b.v)}; }
TS_INLINE B select_b(B mask, B a, B b) { return {_mm512_ternarylogic_epi32(mask.v, a.v, b.v, 0xca)}; }
template <int n>
TS_INLINE B shr_b(B a) {
  return {_mm512_srli_epi16(a.v, n)};
}
template <int n>
TS_INLINE B shl_b(B a) {
  return {_mm512_slli_epi16(a.v, n)};
}

// Four times 16 numbers within -128..127, in order.
TS_INLINE B bytes_of(I a, I b, I c, I d) {
  const __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(a.v, b.v), _mm512_packs_epi32(c.v, d.v));
  return {_mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes)};
}
// sums[i]: of the 16 signed bytes from byte 16 i of q on.
TS_INLINE void store_sums_of_16(int16_t* sums, const B (&q)[8]) {
  const __m512i ones = _mm512_set1_epi16(1);
  __m512i fours[8], eights[4], all[2];  // int32 sums of 4, 8, 16 bytes; of four registers in the end, side by side
  TS_UNROLL for (int i = 0; i < 8; i++) {
    fours[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q[i].v);
  }
  TS_UNROLL for (int i = 0; i < 4; i++) {
    eights[i] = _mm512_madd_epi16(_mm512_packs_epi32(fours[2 * i], fours[2 * i + 1]), ones);
  }
  TS_UNROLL for (int i = 0; i < 2; i++) {
    all[i] = _mm512_madd_epi16(_mm512_packs_epi32(eights[2 * i], eights[2 * i + 1]), ones);
  }
  alignas(64) static constexpr int16_t kOrder[32] = {0, 8,  16, 24, 1, 9,  17, 25, 2, 10, 18, 26, 3, 11, 19, 27,
                                                     4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31};
  _mm512_storeu_si512(sums, _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), _mm512_packs_epi32(all[0], all[1])));
}

constexpr int kBias8 = 128;  // vpdpbusd takes its weights unsigned

TS_INLINE int32_t four_bytes(const void* p) {
  int32_t x;
  __builtin_memcpy(&x, p, 4);
  return x;
}
TS_INLINE X broadcast4(const void* p) { return {_mm512_set1_epi32(four_bytes(p))}; }
template <int bits>
struct Dots {
  using S = I;
  static constexpr int kRun = 8;
  static TS_INLINE S begin(I acc) { return acc; }
  static TS_INLINE S add(S s, B w, X x) { return {_mm512_dpbusd_epi32(s.v, w.v, x.v)}; }
  static TS_INLINE I end(I, S s) { return s; }
};
// Sums that stay in registers through a loop: g++ copies a register each time that its type changes.
struct Sums {
  __v16si v;
};
constexpr int kMostWeight = 255;
TS_INLINE Sums begin_sums(I start) { return {(__v16si)start.v}; }
TS_INLINE Sums add_dots(Sums s, B w, X x) { return {(__v16si)_mm512_dpbusd_epi32((__m512i)s.v, w.v, x.v)}; }
TS_INLINE Sums add_weighed(Sums s, X p, B w) { return {(__v16si)_mm512_dpbusd_epi32((__m512i)s.v, p.v, w.v)}; }
TS_INLINE I end_sums(Sums s) { return {(__m512i)s.v}; }
TS_INLINE B byte_lanes(I a, I b, I c, I d) {
  const __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(a.v, b.v), _mm512_packs_epi32(c.v, d.v));
  return {_mm512_shuffle_epi8(bytes, _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400))};
}
TS_INLINE I half_sums(const int16_t* p, int a, int b) {
  const int32_t factors = static_cast<int32_t>(static_cast<uint32_t>(a & 0xffff) | static_cast<uint32_t>(b) << 16);
  return {_mm512_madd_epi16(_mm512_set1_epi32(four_bytes(p)), _mm512_set1_epi32(factors))};
}

#if defined(TS_ISA_BF16)
struct H {
  __m512bh v;
};
TS_INLINE H load_h(const void* p) { return {(__m512bh)_mm512_loadu_si512(p)}; }
TS_INLINE H broadcast_h(const void* p) { return {(__m512bh)_mm512_set1_epi32(four_bytes(p))}; }
TS_INLINE F dot_bf16(F acc, H w, H x) { return {_mm512_dpbf16_ps(acc.v, w.v, x.v)}; }
#endif

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
