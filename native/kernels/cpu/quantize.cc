// GGUF blocks from and to f32, 16 elements at a time: the arithmetic and the bits of reference/quantize.cc, which
// describes the layouts.
#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

// ---- dequantize ----------------------------------------------------------------------------------------------------
// 16 or 32 codes, a byte each -> codes * d + m
TS_INLINE void affine(const uint8_t* codes, F d, F m, float* y) {
  store(y, add(mul(load_u8(codes), d), m));
  store(y + 16, add(mul(load_u8(codes + 16), d), m));
}
TS_INLINE void symmetric(const uint8_t* codes, int zero, F d, float* y) {
  const F offset = set1(static_cast<float>(zero));
  store(y, mul(sub(load_u8(codes), offset), d));
  store(y + 16, mul(sub(load_u8(codes + 16), offset), d));
}

TS_INLINE void four_bits(const uint8_t* nibbles, uint8_t* codes) {
  for (int j = 0; j < 16; j++) codes[j] = nibbles[j] & 15;
  for (int j = 0; j < 16; j++) codes[j + 16] = nibbles[j] >> 4;
}
TS_INLINE void five_bits(const uint8_t* b, uint8_t* codes) {
  uint32_t high;
  __builtin_memcpy(&high, b, 4);
  four_bits(b + 4, codes);
  for (int j = 0; j < 32; j++) codes[j] = static_cast<uint8_t>(codes[j] | (high >> j & 1) << 4);
}

void q8_0(const uint8_t* b, float* y) {
  const F d = set1(f16_at(b));
  store(y, mul(load_i8(b + 2), d));
  store(y + 16, mul(load_i8(b + 18), d));
}
template <int bits>
void q45_0(const uint8_t* b, float* y) {
  uint8_t codes[32];
  bits == 4 ? four_bits(b + 2, codes) : five_bits(b + 2, codes);
  symmetric(codes, 1 << (bits - 1), set1(f16_at(b)), y);
}
template <int bits>
void q45_1(const uint8_t* b, float* y) {
  uint8_t codes[32];
  bits == 4 ? four_bits(b + 4, codes) : five_bits(b + 4, codes);
  affine(codes, set1(f16_at(b)), set1(f16_at(b + 2)), y);
}

template <int bits>
void q45_k(const uint8_t* b, float* y) {
  const uint8_t *packed = b + 4, *high = b + 16, *low = bits == 5 ? b + 48 : b + 16;
  for (int s = 0; s < 8; s++) {
    const int scale = s < 4 ? packed[s] & 63 : (packed[s + 4] & 15) | (packed[s - 4] >> 6) << 4;
    const int min = s < 4 ? packed[s + 4] & 63 : packed[s + 4] >> 4 | (packed[s] >> 6) << 4;
    uint8_t codes[32];
    for (int j = 0; j < 32; j++) codes[j] = low[s / 2 * 32 + j] >> (s % 2 * 4) & 15;
    for (int j = 0; bits == 5 && j < 32; j++) codes[j] = static_cast<uint8_t>(codes[j] | (high[j] >> s & 1) << 4);
    const float d = f16_at(b) * static_cast<float>(scale), m = f16_at(b + 2) * static_cast<float>(min);
    affine(codes, set1(d), set1(-m), y + 32 * s);
  }
}

void q6_k(const uint8_t* b, float* y) {
  for (int s = 0; s < 8; s++) {
    const uint8_t *low = b + s / 4 * 64 + s % 2 * 32, *high = b + 128 + s / 4 * 32;
    uint8_t codes[32];
    for (int j = 0; j < 32; j++) {
      codes[j] = static_cast<uint8_t>((low[j] >> (s % 4 / 2 * 4) & 15) | (high[j] >> (s % 4 * 2) & 3) << 4);
    }
    for (int half = 0; half < 2; half++) {
      const F d = set1(f16_at(b + 208) * static_cast<float>(static_cast<int8_t>(b[192 + 2 * s + half])));
      store(y + 32 * s + 16 * half, mul(sub(load_u8(codes + 16 * half), set1(32)), d));
    }
  }
}

using Block = void (*)(const uint8_t* block, float* y);
void blocks_to_f32(Block block, const DTypeTraits& t, const uint8_t* from, size_t n, float* y) {
  for (size_t i = 0; i < n; i += static_cast<size_t>(t.block), from += t.bytes) block(from, y + i);
}

template <bool brain>
void halves_to_f32(const uint8_t* from, size_t n, float* y) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, brain ? load_bf16(from + 2 * i) : load_f16(from + 2 * i));
  if (i == n) return;
  uint16_t tail[16] = {};
  __builtin_memcpy(tail, from + 2 * i, 2 * (n - i));
  store_part(y + i, brain ? load_bf16(tail) : load_f16(tail), static_cast<int>(n - i));
}

// ---- quantize ------------------------------------------------------------------------------------------------------
TS_INLINE void put_f16(uint8_t* p, float x) {
  uint16_t all[16];
  store_f16(all, set1(x));
  __builtin_memcpy(p, all, 2);
}
// Below this a scale is 0 in f16, and its inverse would be infinite.
TS_INLINE float inverse_of(float d) { return d > 1e-30f || d < -1e-30f ? 1 / d : 0; }

// round(x * inverse) - low, held in [0, high]
TS_INLINE void to_codes(F x, float inverse, float low, float high, int32_t* codes) {
  storei(codes, to_i32(min(max(sub(round(mul(x, set1(inverse))), set1(low)), zero()), set1(high))));
}

TS_INLINE void put_codes(const int32_t* codes, int bits, uint8_t* b) {
  uint8_t* nibbles = bits == 5 ? b + 4 : b;
  uint32_t high = 0;
  for (int j = 0; j < 32; j++) high |= static_cast<uint32_t>(codes[j] >> 4) << j;
  if (bits == 5) __builtin_memcpy(b, &high, 4);
  for (int j = 0; j < 16; j++) nibbles[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}

void to_q8_0(F x0, F x1, const float*, uint8_t* b) {
  const float d = reduce_max(max(abs(x0), abs(x1))) / 127, inverse = inverse_of(d);
  put_f16(b, d);
  store_i8(b + 2, to_i32(mul(x0, set1(inverse))));
  store_i8(b + 18, to_i32(mul(x1, set1(inverse))));
}

template <int bits>
void to_symmetric(F x0, F x1, const float* x, uint8_t* b) {
  constexpr float zero_code = 1 << (bits - 1);
  const float largest = reduce_max(max(abs(x0), abs(x1)));
  int first = 0;
  while (first < 31 && x[first] != largest && x[first] != -largest) first++;
  const float d = x[first] / -zero_code, inverse = inverse_of(d);
  put_f16(b, d);
  int32_t codes[32];
  to_codes(x0, inverse, -zero_code, 2 * zero_code - 1, codes);
  to_codes(x1, inverse, -zero_code, 2 * zero_code - 1, codes + 16);
  put_codes(codes, bits, b + 2);
}

template <int bits>
void to_affine(F x0, F x1, const float*, uint8_t* b) {
  constexpr float top = (1 << bits) - 1;
  const float high = reduce_max(max(x0, x1)), low = reduce_min(min(x0, x1));
  const float d = (high - low) / top, inverse = inverse_of(d);
  put_f16(b, d);
  put_f16(b + 2, low);
  int32_t codes[32];
  to_codes(sub(x0, set1(low)), inverse, 0, top, codes);
  to_codes(sub(x1, set1(low)), inverse, 0, top, codes + 16);
  put_codes(codes, bits, b + 4);
}

using ToBlock = void (*)(F x0, F x1, const float* x, uint8_t* b);
void blocks_from_f32(ToBlock block, const DTypeTraits& t, const float* x, size_t n, uint8_t* to) {
  for (size_t i = 0; i < n; i += 32, to += t.bytes) block(load(x + i), load(x + i + 16), x + i, to);
}

template <bool brain>
void halves_from_f32(const float* x, size_t n, uint8_t* to) {
  for (size_t i = 0; i < n; i += 16) {
    const int count = n - i < 16 ? static_cast<int>(n - i) : 16;
    const F values = count == 16 ? load(x + i) : load_part(x + i, count);
    uint16_t halves[16];
    brain ? store_bf16(halves, values) : store_f16(halves, values);
    __builtin_memcpy(to + 2 * i, halves, 2 * static_cast<size_t>(count));
  }
}

}  // namespace

void dequantize(DType type, const void* src, size_t n, float* dst, Team&) noexcept {
  const DTypeTraits& t = traits(type);
  const uint8_t* from = static_cast<const uint8_t*>(src);
  switch (type) {
    case DType::f32: __builtin_memcpy(dst, src, n * 4); return;
    case DType::f16: return halves_to_f32<false>(from, n, dst);
    case DType::bf16: return halves_to_f32<true>(from, n, dst);
    case DType::q8_0: return blocks_to_f32(q8_0, t, from, n, dst);
    case DType::q4_0: return blocks_to_f32(q45_0<4>, t, from, n, dst);
    case DType::q4_1: return blocks_to_f32(q45_1<4>, t, from, n, dst);
    case DType::q5_0: return blocks_to_f32(q45_0<5>, t, from, n, dst);
    case DType::q5_1: return blocks_to_f32(q45_1<5>, t, from, n, dst);
    case DType::q4_k: return blocks_to_f32(q45_k<4>, t, from, n, dst);
    case DType::q5_k: return blocks_to_f32(q45_k<5>, t, from, n, dst);
    case DType::q6_k: return blocks_to_f32(q6_k, t, from, n, dst);
    case DType::kivi4:
    case DType::kivi2: return;
  }
}

void quantize(DType type, const float* src, size_t n, void* dst, Team&) noexcept {
  const DTypeTraits& t = traits(type);
  uint8_t* to = static_cast<uint8_t*>(dst);
  switch (type) {
    case DType::f32: __builtin_memcpy(dst, src, n * 4); return;
    case DType::f16: return halves_from_f32<false>(src, n, to);
    case DType::bf16: return halves_from_f32<true>(src, n, to);
    case DType::q8_0: return blocks_from_f32(to_q8_0, t, src, n, to);
    case DType::q4_0: return blocks_from_f32(to_symmetric<4>, t, src, n, to);
    case DType::q5_0: return blocks_from_f32(to_symmetric<5>, t, src, n, to);
    case DType::q4_1: return blocks_from_f32(to_affine<4>, t, src, n, to);
    case DType::q5_1: return blocks_from_f32(to_affine<5>, t, src, n, to);
    default: return;  // the others are read, never written
  }
}

}  // namespace tokensieve::kernels::TS_ISA
