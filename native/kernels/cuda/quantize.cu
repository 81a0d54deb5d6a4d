// Numbers that are read or written once, at load and in tests: host loops, with the bits of reference/quantize.cc.
#include "kernels/quantize.h"

#include <cmath>

#include "core/pool.h"
#include "kernels/cuda/blocks.h"

namespace tokensieve::kernels::cuda {
namespace {

void put_half(uint8_t* p, float x) {
  const uint16_t h = float_to_f16(x);
  std::memcpy(p, &h, 2);
}

// Codes of 32 numbers at steps of d from `from` on: [0, top].
void round_codes(const float* x, float from, float d, int low, int top, uint8_t* codes) {
  const float inverse = std::fabs(d) > 1e-30f ? 1 / d : 0;  // smaller ones are 0 in f16
  for (int j = 0; j < 32; j++) {
    const int code = static_cast<int>(std::nearbyint((x[j] - from) * inverse)) - low;
    codes[j] = static_cast<uint8_t>(code < 0 ? 0 : code > top ? top : code);
  }
}

// Fifth bits (where there are) and nibbles behind the scales.
void put_codes(const uint8_t* codes, bool five, uint8_t* to) {
  if (five) {
    uint32_t fifth = 0;
    for (int j = 0; j < 32; j++) fifth |= static_cast<uint32_t>(codes[j] >> 4) << j;
    std::memcpy(to, &fifth, 4);
    to += 4;
  }
  for (int j = 0; j < 16; j++) to[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}

void quantize_block(DType type, const float* x, uint8_t* b) {
  uint8_t codes[32];
  float low = x[0], high = x[0], extreme = 0;
  for (int j = 0; j < 32; j++) {
    low = std::fmin(low, x[j]), high = std::fmax(high, x[j]);
    if (std::fabs(x[j]) > std::fabs(extreme)) extreme = x[j];
  }
  const bool five = type == DType::q5_0 || type == DType::q5_1;
  const int top = five ? 31 : 15, zero = (top + 1) / 2;
  if (type == DType::q8_0) {
    const float d = std::fabs(extreme) / 127;
    put_half(b, d);
    round_codes(x, 0, d, -127, 254, codes);
    for (int j = 0; j < 32; j++) b[2 + j] = static_cast<uint8_t>(codes[j] - 127);
  } else if (type == DType::q4_0 || type == DType::q5_0) {
    const float d = extreme / static_cast<float>(-zero);
    put_half(b, d);
    round_codes(x, 0, d, -zero, top, codes);
    put_codes(codes, five, b + 2);
  } else {
    const float d = (high - low) / static_cast<float>(top);
    put_half(b, d), put_half(b + 2, low);
    round_codes(x, low, d, 0, top, codes);
    put_codes(codes, five, b + 4);
  }
}

}  // namespace

void dequantize(DType type, const void* src, size_t n, float* dst, Team&) noexcept {
  const uint8_t* from = static_cast<const uint8_t*>(src);
  if (type == DType::f32) {
    std::memcpy(dst, src, n * sizeof(float));
  } else if (traits(type).block == 1) {
    for (size_t i = 0; i < n; i++) {
      uint16_t half;
      std::memcpy(&half, from + 2 * i, 2);
      dst[i] = type == DType::f16 ? f16_to_float(half) : tokensieve::bf16_to_float(half);
    }
  } else {
    for (size_t i = 0; i < n; i += 64) {
      Codes c;
      read_codes(type, from + i / 256 * row_bytes(type, 256), static_cast<int>(i / 64 % 4), n - i / 256 * 256, &c);
      for (int j = 0; j < c.count; j++)
        dst[i + static_cast<size_t>(j)] = c.d[j / 16] * static_cast<float>(c.code[j] - c.zero) + c.m[j / 16];
    }
  }
}

void quantize(DType type, const float* src, size_t n, void* dst, Team&) noexcept {
  uint8_t* to = static_cast<uint8_t*>(dst);
  if (type == DType::f32) {
    std::memcpy(dst, src, n * sizeof(float));
  } else if (traits(type).block == 1) {
    for (size_t i = 0; i < n; i++) {
      const uint16_t half = type == DType::f16 ? float_to_f16(src[i]) : tokensieve::float_to_bf16(src[i]);
      std::memcpy(to + 2 * i, &half, 2);
    }
  } else {
    const size_t bytes = static_cast<size_t>(traits(type).bytes);
    for (size_t i = 0; i < n; i += 32, to += bytes) quantize_block(type, src + i, to);
  }
}

}  // namespace tokensieve::kernels::cuda
