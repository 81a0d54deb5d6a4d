// Exact sums of codes times integers, for attention over quantized pages: 16 lanes of 4 unsigned bytes each (a key's
// channels, a value channel's rows), and numbers x of up to kMost, four at a time, which are common to all lanes.
//
//   Sum none()        16 running sums
//   add_dots<bits, digits, R>(Sum acc[], Codes, x, step)
//                     acc[r] += codes . 4 numbers at x + r * step; digits: 2, or 1 where all are multiples of 128
//   I total(Sum)      sum code * x, or sum (code - 128) * x where kZero8 is 0 and the codes have 8 bits: the caller
//                     takes off kZero8 * sum x
//   load_codes(p)     64 bytes; field_of<bits>(Codes, i): the codes of 4 or 2 bits from bit i * bits of each byte
//   pack(I, I, p)     32 numbers -> 8 units of 4; unit i lies at p + unit_at(i)
// The totals are the same on every machine, whatever form the numbers take.
#pragma once

#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

constexpr int kMost = 127 * 128;  // two digits to the base of 128, each within a signed byte
using Codes = B;

template <int bits>
TS_INLINE B low_bits(B x) {
  return and_b(x, set1b((1 << bits) - 1));
}

#if defined(TS_ISA_AVX512) || defined(TS_ISA_DOTPROD)

// Units are two dwords: 4 high digits, 4 low ones.
TS_INLINE B load_codes(const void* p) { return load_b(p); }

#endif

#if defined(TS_ISA_AVX512)

constexpr int kZero8 = 128;
constexpr int kDotRows = 4, kDotBlocks = 2;

struct Sum {
  __m512i high, low;
};
TS_INLINE Sum none() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
template <int bits, int digits, int R>
TS_INLINE void add_dots(Sum* acc, B codes, const uint8_t* x, size_t step) {
  TS_UNROLL for (int r = 0; r < R; r++, x += step) {
    acc[r].high = _mm512_dpbusd_epi32(acc[r].high, codes.v, _mm512_set1_epi32(four_bytes(x)));
    if constexpr (digits == 1) continue;
    acc[r].low = _mm512_dpbusd_epi32(acc[r].low, codes.v, _mm512_set1_epi32(four_bytes(x + 4)));
  }
}
TS_INLINE I total(Sum s) { return {_mm512_add_epi32(_mm512_slli_epi32(s.high, 7), s.low)}; }
TS_INLINE constexpr int unit_at(int i) { return 16 * (i % 4) + 8 * (i / 4); }  // in the order that packing leaves
TS_INLINE void pack(I a, I b, uint8_t* p) {
  const __m512i x = _mm512_packs_epi32(a.v, b.v);
  const __m512i high = _mm512_and_si512(_mm512_slli_epi16(x, 1), _mm512_set1_epi16(-256));
  const __m512i digits = _mm512_ternarylogic_epi32(x, _mm512_set1_epi16(127), high, 0xea);  // x & 127 | high
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(1, 3, 5, 7, 0, 2, 4, 6, 9, 11, 13, 15, 8, 10, 12, 14));
  _mm512_storeu_si512(p, _mm512_shuffle_epi8(digits, order));
}

#elif defined(TS_ISA_AVX2)

// Units are four 16-bit numbers. A register of sums holds 4 lanes, two halves each.
constexpr int kZero8 = 128;
constexpr int kDotRows = 3, kDotBlocks = 1;

struct Sum {
  __m256i v[4];
};
TS_INLINE B load_codes(const void* p) { return load_b(p); }
TS_INLINE Sum none() {
  const __m256i z = _mm256_setzero_si256();
  return {{z, z, z, z}};
}
template <int i, int R>
TS_INLINE void add_quarter(Sum* acc, __m128i codes, const uint8_t* x, size_t step) {
  const __m256i w = _mm256_cvtepu8_epi16(codes);
  TS_UNROLL for (int r = 0; r < R; r++, x += step) {
    int64_t unit;
    __builtin_memcpy(&unit, x, 8);
    acc[r].v[i] = _mm256_add_epi32(acc[r].v[i], _mm256_madd_epi16(w, _mm256_set1_epi64x(unit)));
  }
}
template <int bits, int digits, int R>
TS_INLINE void add_dots(Sum* acc, B codes, const uint8_t* x, size_t step) {
  add_quarter<0, R>(acc, _mm256_castsi256_si128(codes.a), x, step);
  add_quarter<1, R>(acc, _mm256_extracti128_si256(codes.a, 1), x, step);
  add_quarter<2, R>(acc, _mm256_castsi256_si128(codes.b), x, step);
  add_quarter<3, R>(acc, _mm256_extracti128_si256(codes.b, 1), x, step);
}
TS_INLINE I total(Sum s) {
  return {_mm256_permute4x64_epi64(_mm256_hadd_epi32(s.v[0], s.v[1]), 0xd8),
          _mm256_permute4x64_epi64(_mm256_hadd_epi32(s.v[2], s.v[3]), 0xd8)};
}
TS_INLINE constexpr int unit_at(int i) { return 8 * i; }
TS_INLINE void pack(I a, I b, uint8_t* p) {
  store_256(p, _mm256_permute4x64_epi64(_mm256_packs_epi32(a.a, a.b), 0xd8));
  store_256(p + 32, _mm256_permute4x64_epi64(_mm256_packs_epi32(b.a, b.b), 0xd8));
}

#elif defined(TS_ISA_DOTPROD)

constexpr int kZero8 = 0;
constexpr int kDotRows = 3, kDotBlocks = 1;

struct Sum {
  I high, low;
};
TS_INLINE Sum none() { return {zeroi(), zeroi()}; }
template <int bits, int digits, int R>
TS_INLINE void add_dots(Sum* acc, B codes, const uint8_t* x, size_t step) {
  if constexpr (bits == 8) {
    TS_UNROLL for (int i = 0; i < 4; i++) codes.v[i] = veorq_u8(codes.v[i], vdupq_n_u8(128));
  }
  TS_UNROLL for (int r = 0; r < R; r++, x += step) {
    const X high = broadcast4(x), low = broadcast4(x + 4);
    TS_UNROLL for (int i = 0; i < 4; i++) {
      const int8x16_t w = vreinterpretq_s8_u8(codes.v[i]);
      acc[r].high.v[i] = vdotq_s32(acc[r].high.v[i], w, high.v);
      if constexpr (digits == 2) acc[r].low.v[i] = vdotq_s32(acc[r].low.v[i], w, low.v);
    }
  }
}
TS_INLINE I total(Sum s) { TS_QUARTERS(I, vaddq_s32(vshlq_n_s32(s.high.v[i], 7), s.low.v[i])); }
TS_INLINE constexpr int unit_at(int i) { return 8 * i; }
TS_INLINE void pack_half(I x, uint8_t* p) {
  I high, low;
  TS_UNROLL for (int i = 0; i < 4; i++) {
    high.v[i] = vshrq_n_s32(x.v[i], 7);
    low.v[i] = vandq_s32(x.v[i], vdupq_n_s32(127));
  }
  uint8_t digits[32];
  store_i8(digits, high);
  store_i8(digits + 16, low);
  for (int i = 0; i < 4; i++) {
    __builtin_memcpy(p + 8 * i, digits + 4 * i, 4);
    __builtin_memcpy(p + 8 * i + 4, digits + 16 + 4 * i, 4);
  }
}
TS_INLINE void pack(I a, I b, uint8_t* p) {
  pack_half(a, p);
  pack_half(b, p + 32);
}

#else

// The four bytes of the lanes are taken apart when read: register j of the codes is byte j of 16 lanes.
constexpr int kZero8 = 128;
constexpr int kDotRows = 3, kDotBlocks = 1;

using Sum = I;
TS_INLINE B load_codes(const void* p) {
  const uint8x16x4_t x = vld4q_u8(at(p, 0));
  return {{x.val[0], x.val[1], x.val[2], x.val[3]}};
}
TS_INLINE Sum none() { return zeroi(); }
template <int bits, int digits, int R>
TS_INLINE void add_dots(Sum* acc, B codes, const uint8_t* x, size_t step) {
  TS_UNROLL for (int j = 0; j < 4; j++, x += 2) {
    const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes.v[j])));
    const int16x8_t high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(codes.v[j])));
    TS_UNROLL for (int r = 0; r < R; r++) {
      int16_t number;
      __builtin_memcpy(&number, x + static_cast<size_t>(r) * step, 2);
      acc[r].v[0] = vmlal_n_s16(acc[r].v[0], vget_low_s16(low), number);
      acc[r].v[1] = vmlal_n_s16(acc[r].v[1], vget_high_s16(low), number);
      acc[r].v[2] = vmlal_n_s16(acc[r].v[2], vget_low_s16(high), number);
      acc[r].v[3] = vmlal_n_s16(acc[r].v[3], vget_high_s16(high), number);
    }
  }
}
TS_INLINE I total(Sum s) { return s; }
TS_INLINE constexpr int unit_at(int i) { return 8 * i; }
TS_INLINE void pack(I a, I b, uint8_t* p) {
  TS_UNROLL for (int i = 0; i < 4; i++) {
    vst1_u8(p + 8 * i, vreinterpret_u8_s16(vmovn_s32(a.v[i])));
    vst1_u8(p + 32 + 8 * i, vreinterpret_u8_s16(vmovn_s32(b.v[i])));
  }
}

#endif

template <int bits>
TS_INLINE B field_of(B x, int i) {
  static_assert(bits == 4 || bits == 2, "");
  if constexpr (bits == 4) return low_bits<4>(i ? shr_b<4>(x) : x);
  return low_bits<2>(i == 0 ? x : i == 1 ? shr_b<2>(x) : i == 2 ? shr_b<4>(x) : shr_b<6>(x));
}

// The zero of 8-bit codes that the totals still hold.
template <int bits>
TS_INLINE constexpr int zero_left(int zero) {
  return bits == 8 ? (zero == 128 ? kZero8 : zero) : zero;
}

// The largest magnitude of numbers -> their scale and its inverse: numbers * inverse are within kMost.
TS_INLINE float number_scale(float magnitude, float* inverse) {
  *inverse = magnitude > 1e-30f ? static_cast<float>(kMost) / magnitude : 0;
  return magnitude / static_cast<float>(kMost);
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
