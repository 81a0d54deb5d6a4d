// simd.h for arm64: four registers of everything. TS_ISA_DOTPROD adds the int8 dot of Armv8.2.
#pragma once

#include <arm_neon.h>

namespace tokensieve::kernels::TS_ISA {
namespace {

struct F {
  float32x4_t v[4];
};
struct I {
  int32x4_t v[4];
};
struct B {
  uint8x16_t v[4];
};
struct X {
  int8x16_t v;
};

#define TS_QUARTERS(type, expression)                        \
  type r;                                                    \
  TS_UNROLL for (int i = 0; i < 4; i++) r.v[i] = expression; \
  return r

TS_INLINE F zero() { TS_QUARTERS(F, vdupq_n_f32(0)); }
TS_INLINE F set1(float x) { TS_QUARTERS(F, vdupq_n_f32(x)); }
TS_INLINE F load(const float* p) { TS_QUARTERS(F, vld1q_f32(p + 4 * i)); }
TS_INLINE void store(float* p, F a) { TS_UNROLL for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, a.v[i]); }
TS_INLINE F load_part(const float* p, int n) {
  float all[16] = {};
  for (int i = 0; i < n; i++) all[i] = p[i];
  return load(all);
}
TS_INLINE void store_part(float* p, F a, int n) {
  float all[16];
  store(all, a);
  for (int i = 0; i < n; i++) p[i] = all[i];
}
TS_INLINE F add(F a, F b) { TS_QUARTERS(F, vaddq_f32(a.v[i], b.v[i])); }
TS_INLINE F sub(F a, F b) { TS_QUARTERS(F, vsubq_f32(a.v[i], b.v[i])); }
TS_INLINE F mul(F a, F b) { TS_QUARTERS(F, vmulq_f32(a.v[i], b.v[i])); }
TS_INLINE F div(F a, F b) { TS_QUARTERS(F, vdivq_f32(a.v[i], b.v[i])); }
TS_INLINE F min(F a, F b) { TS_QUARTERS(F, vminq_f32(a.v[i], b.v[i])); }
TS_INLINE F max(F a, F b) { TS_QUARTERS(F, vmaxq_f32(a.v[i], b.v[i])); }
TS_INLINE F abs(F a) { TS_QUARTERS(F, vabsq_f32(a.v[i])); }
TS_INLINE F sqrt(F a) { TS_QUARTERS(F, vsqrtq_f32(a.v[i])); }
TS_INLINE F fma(F a, F b, F c) { TS_QUARTERS(F, vfmaq_f32(c.v[i], a.v[i], b.v[i])); }
TS_INLINE F fnma(F a, F b, F c) { TS_QUARTERS(F, vfmsq_f32(c.v[i], a.v[i], b.v[i])); }
TS_INLINE F round(F a) { TS_QUARTERS(F, vrndnq_f32(a.v[i])); }
TS_INLINE F select_less(F a, F b, F x, F y) { TS_QUARTERS(F, vbslq_f32(vcltq_f32(a.v[i], b.v[i]), x.v[i], y.v[i])); }
TS_INLINE float32x4_t hadamard4(float32x4_t x) {
  const float32x4_t signs = {1, -1, 1, -1}, halves = {1, 1, -1, -1};
  x = vfmaq_f32(vrev64q_f32(x), x, signs);
  return vfmaq_f32(vextq_f32(x, x, 2), x, halves);
}
TS_INLINE F hadamard16(F x) {
  float32x4_t a[4];
  TS_UNROLL for (int i = 0; i < 4; i++) a[i] = hadamard4(x.v[i]);
  const float32x4_t low = vaddq_f32(a[0], a[1]), down = vsubq_f32(a[0], a[1]);
  const float32x4_t high = vaddq_f32(a[2], a[3]), up = vsubq_f32(a[2], a[3]);
  return {{vaddq_f32(low, high), vaddq_f32(down, up), vsubq_f32(low, high), vsubq_f32(down, up)}};
}
TS_INLINE float reduce_add(F a) {
  const float32x4_t q = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  const float32x2_t d = vadd_f32(vget_low_f32(q), vget_high_f32(q));
  return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}
TS_INLINE float reduce_max(F a) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[2]), vmaxq_f32(a.v[1], a.v[3]))); }
TS_INLINE float reduce_min(F a) { return vminvq_f32(vminq_f32(vminq_f32(a.v[0], a.v[2]), vminq_f32(a.v[1], a.v[3]))); }
// x 2^n in two steps, so that results below the normal range and above the largest come out as they should.
TS_INLINE float32x4_t scale_by_power(float32x4_t x, float32x4_t n) {
  const int32x4_t power = vcvtq_s32_f32(n), half = vshrq_n_s32(power, 1), one = vdupq_n_s32(127);
  const int32x4_t first = vshlq_n_s32(vaddq_s32(half, one), 23);
  const int32x4_t second = vshlq_n_s32(vaddq_s32(vsubq_s32(power, half), one), 23);
  return vmulq_f32(vmulq_f32(x, vreinterpretq_f32_s32(first)), vreinterpretq_f32_s32(second));
}
TS_INLINE F scale_by_power(F a, F n) { TS_QUARTERS(F, scale_by_power(a.v[i], n.v[i])); }

TS_INLINE const uint8_t* at(const void* p, int bytes) { return static_cast<const uint8_t*>(p) + bytes; }
TS_INLINE uint8_t* at(void* p, int bytes) { return static_cast<uint8_t*>(p) + bytes; }
TS_INLINE uint16x4_t load_u16x4(const void* p) { return vreinterpret_u16_u8(vld1_u8(static_cast<const uint8_t*>(p))); }
TS_INLINE float f16_at(const void* p) {
  uint16_t h;
  __builtin_memcpy(&h, p, 2);
  return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}
TS_INLINE F load_f16(const void* p) { TS_QUARTERS(F, vcvt_f32_f16(vreinterpret_f16_u16(load_u16x4(at(p, 8 * i))))); }
TS_INLINE F load_bf16(const void* p) {
  TS_QUARTERS(F, vreinterpretq_f32_u32(vshll_n_u16(load_u16x4(at(p, 8 * i)), 16)));
}
TS_INLINE F widen_u8(uint8x16_t x) {
  const uint16x8_t low = vmovl_u8(vget_low_u8(x)), high = vmovl_u8(vget_high_u8(x));
  return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
           vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)))}};
}
TS_INLINE F load_i8(const void* p) {
  const int8x16_t x = vreinterpretq_s8_u8(vld1q_u8(at(p, 0)));
  const int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_s8(vget_high_s8(x));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
TS_INLINE F load_u8(const void* p) { return widen_u8(vld1q_u8(at(p, 0))); }
TS_INLINE F load_u4lo(const void* p) { return widen_u8(vandq_u8(vld1q_u8(at(p, 0)), vdupq_n_u8(15))); }
TS_INLINE F load_u4hi(const void* p) { return widen_u8(vshrq_n_u8(vld1q_u8(at(p, 0)), 4)); }
TS_INLINE void store_f16(void* p, F a) {
  TS_UNROLL for (int i = 0; i < 4; i++) { vst1_u8(at(p, 8 * i), vreinterpret_u8_f16(vcvt_f16_f32(a.v[i]))); }
}
TS_INLINE uint16x4_t narrow_bf16(float32x4_t x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x), high = vshrq_n_u32(bits, 16);
  const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
  const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd), 16);
  return vmovn_u32(vbslq_u32(vceqq_f32(x, x), rounded, vorrq_u32(high, vdupq_n_u32(0x40))));
}
TS_INLINE void store_bf16(void* p, F a) {
  TS_UNROLL for (int i = 0; i < 4; i++) vst1_u8(at(p, 8 * i), vreinterpret_u8_u16(narrow_bf16(a.v[i])));
}

TS_INLINE I zeroi() { TS_QUARTERS(I, vdupq_n_s32(0)); }
TS_INLINE I set1i(int32_t x) { TS_QUARTERS(I, vdupq_n_s32(x)); }
TS_INLINE I loadi(const int32_t* p) { TS_QUARTERS(I, vld1q_s32(p + 4 * i)); }
TS_INLINE void storei(int32_t* p, I a) { TS_UNROLL for (int i = 0; i < 4; i++) vst1q_s32(p + 4 * i, a.v[i]); }
TS_INLINE I addi(I a, I b) { TS_QUARTERS(I, vaddq_s32(a.v[i], b.v[i])); }
TS_INLINE I subi(I a, I b) { TS_QUARTERS(I, vsubq_s32(a.v[i], b.v[i])); }
TS_INLINE I muli(I a, I b) { TS_QUARTERS(I, vmulq_s32(a.v[i], b.v[i])); }
TS_INLINE I mini(I a, I b) { TS_QUARTERS(I, vminq_s32(a.v[i], b.v[i])); }
TS_INLINE I maxi(I a, I b) { TS_QUARTERS(I, vmaxq_s32(a.v[i], b.v[i])); }
TS_INLINE F to_f32(I a) { TS_QUARTERS(F, vcvtq_f32_s32(a.v[i])); }
TS_INLINE I to_i32(F a) { TS_QUARTERS(I, vcvtnq_s32_f32(a.v[i])); }
TS_INLINE int32_t reduce_addi(I a) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(a.v[0], a.v[1]), vaddq_s32(a.v[2], a.v[3])));
}
TS_INLINE I pair_sums(const int16_t* p) { TS_QUARTERS(I, vpaddlq_s16(vld1q_s16(p + 8 * i))); }
TS_INLINE void store_i8(void* p, I a) {
  const int16x8_t low = vcombine_s16(vmovn_s32(a.v[0]), vmovn_s32(a.v[1]));
  const int16x8_t high = vcombine_s16(vmovn_s32(a.v[2]), vmovn_s32(a.v[3]));
  vst1q_u8(at(p, 0), vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(low), vmovn_s16(high))));
}

TS_INLINE B load_b(const void* p) { TS_QUARTERS(B, vld1q_u8(at(p, 16 * i))); }
TS_INLINE void store_b(void* p, B a) { TS_UNROLL for (int i = 0; i < 4; i++) vst1q_u8(at(p, 16 * i), a.v[i]); }
TS_INLINE B set1b(int x) { TS_QUARTERS(B, vdupq_n_u8(static_cast<uint8_t>(x))); }
TS_INLINE B and_b(B a, B b) { TS_QUARTERS(B, vandq_u8(a.v[i], b.v[i])); }
TS_INLINE B or_b(B a, B b) { TS_QUARTERS(B, vorrq_u8(a.v[i], b.v[i])); }
TS_INLINE B xor_b(B a, B b) { TS_QUARTERS(B, veorq_u8(a.v[i], b.v[i])); }
TS_INLINE B select_b(B mask, B a, B b) { TS_QUARTERS(B, vbslq_u8(mask.v[i], a.v[i], b.v[i])); }
template <int n>
TS_INLINE B shr_b(B a) {
  if constexpr (n == 0) {
    return a;
  } else {
    TS_QUARTERS(B, vreinterpretq_u8_u16(vshrq_n_u16(vreinterpretq_u16_u8(a.v[i]), n)));
  }
}
template <int n>
TS_INLINE B shl_b(B a) {
  TS_QUARTERS(B, vreinterpretq_u8_u16(vshlq_n_u16(vreinterpretq_u16_u8(a.v[i]), n)));
}

constexpr int kBias8 = 0;

TS_INLINE X broadcast4(const void* p) {
  int32_t x;
  __builtin_memcpy(&x, p, 4);
  return {vreinterpretq_s8_s32(vdupq_n_s32(x))};
}
#if defined(TS_ISA_DOTPROD)
template <int bits>
struct Dots {
  using S = I;
  static constexpr int kRun = 8;
  static TS_INLINE S begin(I acc) { return acc; }
  static TS_INLINE S add(S s, B w, X x) { TS_QUARTERS(I, vdotq_s32(s.v[i], vreinterpretq_s8_u8(w.v[i]), x.v)); }
  static TS_INLINE I end(I, S s) { return s; }
};
using Sums = I;
constexpr int kMostWeight = 127;
TS_INLINE Sums begin_sums(I start) { return start; }
TS_INLINE Sums add_dots(Sums s, B w, X x) { return Dots<8>::add(s, w, x); }
TS_INLINE Sums add_weighed(Sums s, X p, B w) { return Dots<8>::add(s, w, p); }
TS_INLINE I end_sums(Sums s) { return s; }
TS_INLINE B byte_lanes(I a, I b, I c, I d) {
  TS_QUARTERS(B,
              vreinterpretq_u8_s32(vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(a.v[i], b.v[i], 8), c.v[i], 16), d.v[i], 24)));
}
#else
// Products stay in 16 bits for a run of groups: 8 * 31 * 127, 4 * 63 * 127 and 2 * 128 * 127 are below 2^15.
template <int bits>
struct Dots {
  struct S {
    int16x8_t low[4], high[4];
  };
  static constexpr int kRun = bits == 8 ? 2 : bits == 6 ? 4 : 8;
  static TS_INLINE S begin(I) {
    S s;
    TS_UNROLL for (int i = 0; i < 4; i++) s.low[i] = s.high[i] = vdupq_n_s16(0);
    return s;
  }
  static TS_INLINE S add(S s, B w, X x) {
    TS_UNROLL for (int i = 0; i < 4; i++) {
      const int8x16_t q = vreinterpretq_s8_u8(w.v[i]);
      s.low[i] = vmlal_s8(s.low[i], vget_low_s8(q), vget_low_s8(x.v));
      s.high[i] = vmlal_high_s8(s.high[i], q, x.v);
    }
    return s;
  }
  // The four products of a row lie side by side; two of them may not fit 16 bits together.
  static TS_INLINE I end(I acc, S s) {
    TS_QUARTERS(I, vaddq_s32(acc.v[i], vpaddq_s32(vpaddlq_s16(s.low[i]), vpaddlq_s16(s.high[i]))));
  }
};
#endif
TS_INLINE I half_sums(const int16_t* p, int a, int b) { return set1i(a * p[0] + b * p[1]); }

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
