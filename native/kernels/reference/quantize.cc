// Blocks between f32 and GGUF's layouts, one element after another. Little endian is assumed, as the format is.
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {
namespace {

uint16_t u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
float f16(const uint8_t* p) { return f16_to_float(u16(p)); }
void put_f16(uint8_t* p, float x) {
  const uint16_t h = float_to_f16(x);
  std::memcpy(p, &h, 2);
}

// ---- dequantize: one block at a time -------------------------------------------------------------------------------
// q8_0: f16 d, int8 q[32]. q4_0: f16 d, 16 bytes: element j in the low nibble of byte j, j + 16 in the high one.
// q4_1: f16 d, f16 m, 16 bytes. q5_0, q5_1: as q4 with 32 fifth bits (bit j: element j) before the nibbles.
void q8_0(const uint8_t* b, float* y) {
  const float d = f16(b);
  for (int j = 0; j < 32; j++) y[j] = d * static_cast<float>(static_cast<int8_t>(b[2 + j]));
}

int nibble(const uint8_t* nibbles, int j) { return j < 16 ? nibbles[j] & 15 : nibbles[j - 16] >> 4; }

void q4_0(const uint8_t* b, float* y) {
  const float d = f16(b);
  for (int j = 0; j < 32; j++) y[j] = d * static_cast<float>(nibble(b + 2, j) - 8);
}

void q4_1(const uint8_t* b, float* y) {
  const float d = f16(b), m = f16(b + 2);
  for (int j = 0; j < 32; j++) y[j] = d * static_cast<float>(nibble(b + 4, j)) + m;
}

int five_bits(const uint8_t* b, int j) { return nibble(b + 4, j) | (b[j / 8] >> (j % 8) & 1) << 4; }

void q5_0(const uint8_t* b, float* y) {
  const float d = f16(b);
  for (int j = 0; j < 32; j++) y[j] = d * static_cast<float>(five_bits(b + 2, j) - 16);
}

void q5_1(const uint8_t* b, float* y) {
  const float d = f16(b), m = f16(b + 2);
  for (int j = 0; j < 32; j++) y[j] = d * static_cast<float>(five_bits(b + 4, j)) + m;
}

// Sub-block s of 32 elements has a 6-bit scale and a 6-bit minimum, packed into 12 bytes: s < 4 in the low 6 bits of
// bytes s and s + 4; s >= 4 in the nibbles of byte s + 4, its top 2 bits in the tops of bytes s - 4 and s.
void scale_min(const uint8_t* p, int s, int* scale, int* min) {
  if (s < 4) {
    *scale = p[s] & 63;
    *min = p[s + 4] & 63;
  } else {
    *scale = (p[s + 4] & 15) | (p[s - 4] >> 6) << 4;
    *min = p[s + 4] >> 4 | (p[s] >> 6) << 4;
  }
}

// q4_k: f16 d, f16 dmin, 12 bytes of scales, 128 bytes: sub-blocks 2i and 2i + 1 are the nibbles of bytes 32i..32i+31.
// q5_k: 32 bytes of fifth bits before the nibbles: bit s of byte j is element j of sub-block s.
void q45_k(const uint8_t* b, bool five, float* y) {
  const uint8_t* high = b + 16;
  const uint8_t* low = five ? b + 48 : b + 16;
  for (int s = 0; s < 8; s++) {
    int scale, min;
    scale_min(b + 4, s, &scale, &min);
    const float d = f16(b) * static_cast<float>(scale), m = f16(b + 2) * static_cast<float>(min);
    for (int j = 0; j < 32; j++) {
      int code = low[s / 2 * 32 + j] >> (s % 2 * 4) & 15;
      if (five) code |= (high[j] >> s & 1) << 4;
      y[32 * s + j] = d * static_cast<float>(code) - m;
    }
  }
}

// q6_k: 128 bytes of low nibbles, 64 bytes of high pairs, int8 scales[16] (of 16 elements), f16 d. Of each half (128
// elements): element 32 i + j has the nibble i / 2 of byte 32 (i % 2) + j and the bit pair i of byte j.
void q6_k(const uint8_t* b, float* y) {
  const float d = f16(b + 208);
  for (int e = 0; e < 256; e++) {
    const int half = e / 128, i = e % 128 / 32, j = e % 32;
    const int low = b[64 * half + 32 * (i % 2) + j] >> (i / 2 * 4) & 15;
    const int high = b[128 + 32 * half + j] >> (2 * i) & 3;
    const float scale = d * static_cast<float>(static_cast<int8_t>(b[192 + e / 16]));
    y[e] = scale * static_cast<float>((low | high << 4) - 32);
  }
}

void block_to_f32(DType type, const uint8_t* b, float* y) {
  switch (type) {
    case DType::f32: std::memcpy(y, b, 4); break;
    case DType::f16: *y = f16(b); break;
    case DType::bf16: *y = bf16_to_float(u16(b)); break;
    case DType::q8_0: q8_0(b, y); break;
    case DType::q4_0: q4_0(b, y); break;
    case DType::q4_1: q4_1(b, y); break;
    case DType::q5_0: q5_0(b, y); break;
    case DType::q5_1: q5_1(b, y); break;
    case DType::q4_k: q45_k(b, false, y); break;
    case DType::q5_k: q45_k(b, true, y); break;
    case DType::q6_k: q6_k(b, y); break;
    case DType::kivi4:
    case DType::kivi2: break;
  }
}

// ---- quantize ------------------------------------------------------------------------------------------------------
// Below this a scale is 0 in f16, and its inverse would be infinite.
float inverse_of(float d) { return std::fabs(d) > 1e-30f ? 1 / d : 0; }

int code(float x, float inverse, int low, int high) {
  const int q = static_cast<int>(std::nearbyint(x * inverse)) - low;
  return q < 0 ? 0 : q > high ? high : q;
}

void to_q8_0(const float* x, uint8_t* b) {
  float largest = 0;
  for (int j = 0; j < 32; j++) largest = std::fmax(largest, std::fabs(x[j]));
  const float d = largest / 127, inverse = inverse_of(d);
  put_f16(b, d);
  for (int j = 0; j < 32; j++) b[2 + j] = static_cast<uint8_t>(code(x[j], inverse, -127, 254) - 127);
}

void put_codes(const int* codes, int bits, uint8_t* b) {
  uint8_t* nibbles = bits == 5 ? b + 4 : b;
  uint32_t high = 0;
  for (int j = 0; j < 32; j++) high |= static_cast<uint32_t>(codes[j] >> 4) << j;
  if (bits == 5) std::memcpy(b, &high, 4);
  for (int j = 0; j < 16; j++) nibbles[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}

void to_symmetric(const float* x, int bits, uint8_t* b) {
  const int zero = 1 << (bits - 1);
  float extreme = 0;
  for (int j = 0; j < 32; j++) extreme = std::fabs(x[j]) > std::fabs(extreme) ? x[j] : extreme;
  const float d = extreme / static_cast<float>(-zero), inverse = inverse_of(d);
  put_f16(b, d);
  int codes[32];
  for (int j = 0; j < 32; j++) codes[j] = code(x[j], inverse, -zero, 2 * zero - 1);
  put_codes(codes, bits, b + 2);
}

void to_affine(const float* x, int bits, uint8_t* b) {
  const int top = (1 << bits) - 1;
  float min = x[0], max = x[0];
  for (int j = 1; j < 32; j++) {
    min = std::fmin(min, x[j]);
    max = std::fmax(max, x[j]);
  }
  const float d = (max - min) / static_cast<float>(top), inverse = inverse_of(d);
  put_f16(b, d);
  put_f16(b + 2, min);
  int codes[32];
  for (int j = 0; j < 32; j++) codes[j] = code(x[j] - min, inverse, 0, top);
  put_codes(codes, bits, b + 4);
}

void block_from_f32(DType type, const float* x, uint8_t* b) {
  const uint16_t brain = float_to_bf16(*x);
  switch (type) {
    case DType::f32: std::memcpy(b, x, 4); break;
    case DType::f16: put_f16(b, *x); break;
    case DType::bf16: std::memcpy(b, &brain, 2); break;
    case DType::q8_0: to_q8_0(x, b); break;
    case DType::q4_0: to_symmetric(x, 4, b); break;
    case DType::q5_0: to_symmetric(x, 5, b); break;
    case DType::q4_1: to_affine(x, 4, b); break;
    case DType::q5_1: to_affine(x, 5, b); break;
    default: break;  // the others are read, never written
  }
}

}  // namespace

void dequantize(DType type, const void* src, size_t n, float* dst, Team&) noexcept {
  const DTypeTraits& t = traits(type);
  const uint8_t* block = static_cast<const uint8_t*>(src);
  for (size_t i = 0; i < n; i += static_cast<size_t>(t.block), block += t.bytes) block_to_f32(type, block, dst + i);
}

void quantize(DType type, const float* src, size_t n, void* dst, Team&) noexcept {
  const DTypeTraits& t = traits(type);
  uint8_t* block = static_cast<uint8_t*>(dst);
  for (size_t i = 0; i < n; i += static_cast<size_t>(t.block), block += t.bytes) block_from_f32(type, src + i, block);
}

}  // namespace tokensieve::kernels::reference
