// GGUF's blocks taken apart by the host, 64 columns at a time: for packing and for numbers that are read once.
#pragma once

#include <cstring>

#include "core/dtype.h"
#include "core/half.h"

namespace tokensieve::kernels::cuda {

// count columns (32 or 64) of a row: value = d * (code - zero) + m, d and m by steps of 16; m is -0 where there is
// none, so that a zero keeps its sign.
struct Codes {
  int count, zero;
  uint8_t code[64];
  float d[4], m[4];
};

inline float half_at(const uint8_t* p) noexcept { return f16_to_float(static_cast<uint16_t>(p[0] | p[1] << 8)); }

// Of a k block: scale and minimum of block s of 32, 6 bits each. The first four lie in bytes of their own, whose two
// upper bits complete the last four.
inline void scale_and_minimum(const uint8_t* p, int s, uint8_t* scale, uint8_t* minimum) noexcept {
  const uint8_t both = p[s + 4];
  *scale = static_cast<uint8_t>(s < 4 ? p[s] & 63 : (both & 15) | (p[s - 4] & 192) >> 2);
  *minimum = static_cast<uint8_t>(s < 4 ? both & 63 : both >> 4 | (p[s] & 192) >> 2);
}

// A block of 32: f16 scale, f16 minimum (q4_1, q5_1), fifth bits (q5), nibbles or bytes.
inline void read_block(DType type, const uint8_t* b, int at, Codes* c) noexcept {
  const bool affine = type == DType::q4_1 || type == DType::q5_1, five = type == DType::q5_0 || type == DType::q5_1;
  const uint8_t* codes = b + (affine ? 4 : 2);
  uint32_t fifth = 0;
  if (five) std::memcpy(&fifth, codes, 4), codes += 4;
  uint8_t* const to = c->code + 32 * at;
  for (int j = 0; j < 32; j++) {
    if (type == DType::q8_0) {
      to[j] = codes[j] ^ 0x80;
    } else {
      const int nibble = j < 16 ? codes[j] & 15 : codes[j - 16] >> 4;
      to[j] = static_cast<uint8_t>(nibble | (fifth >> j & 1) << 4);
    }
  }
  for (int s = 2 * at; s < 2 * at + 2; s++) c->d[s] = half_at(b), c->m[s] = affine ? half_at(b + 2) : -0.0f;
}

// Quarter i of a q4_k or q5_k block: blocks of 32 number 2 i, the low nibbles of 32 bytes, and 2 i + 1, their high
// ones.
inline void read_quarter(bool five, const uint8_t* b, int i, Codes* c) noexcept {
  const uint8_t *fifth = b + 16, *nibbles = b + (five ? 48 : 16) + 32 * i;
  for (int j = 0; j < 64; j++) {
    const int low = j < 32 ? nibbles[j] & 15 : nibbles[j - 32] >> 4;
    const int high = five ? fifth[j % 32] >> (2 * i + j / 32) & 1 : 0;
    c->code[j] = static_cast<uint8_t>(low | high << 4);
  }
  for (int s = 0; s < 4; s++) {
    uint8_t scale, minimum;
    scale_and_minimum(b + 4, 2 * i + s / 2, &scale, &minimum);
    c->d[s] = half_at(b) * static_cast<float>(scale), c->m[s] = -(half_at(b + 2) * static_cast<float>(minimum));
  }
}

// Quarter i of a q6_k block: half i / 2 of it, of whose 32 columns r (0 to 3) the nibbles are the r / 2 ones of bytes
// 32 (r % 2) .. and the upper bits the pairs r of 32 bytes.
inline void read_q6_quarter(const uint8_t* b, int i, Codes* c) noexcept {
  const uint8_t *low = b + 64 * (i / 2), *high = b + 128 + 32 * (i / 2);
  for (int j = 0; j < 64; j++) {
    const int r = i % 2 * 2 + j / 32, from = j % 32;
    const int nibble = low[32 * (r % 2) + from] >> 4 * (r / 2) & 15;
    c->code[j] = static_cast<uint8_t>(nibble | (high[from] >> 2 * r & 3) << 4);
  }
  for (int s = 0; s < 4; s++) {
    c->d[s] = half_at(b + 208) * static_cast<float>(static_cast<int8_t>(b[192 + 4 * i + s])), c->m[s] = -0.0f;
  }
}

constexpr int zero_of(DType type) {
  return type == DType::q8_0 ? 128 : type == DType::q6_k ? 32 : type == DType::q5_0 ? 16 : type == DType::q4_0 ? 8 : 0;
}

// Columns [64 group, ...) of a quantized row of `cols`.
inline void read_codes(DType type, const uint8_t* row, int group, size_t cols, Codes* c) noexcept {
  const size_t first = static_cast<size_t>(group) * 64;
  c->count = cols - first < 64 ? 32 : 64;
  c->zero = zero_of(type);
  if (traits(type).block == 256) {
    const uint8_t* b = row + first / 256 * static_cast<size_t>(traits(type).bytes);
    return type == DType::q6_k ? read_q6_quarter(b, group % 4, c) : read_quarter(type == DType::q5_k, b, group % 4, c);
  }
  for (int i = 0; i < c->count / 32; i++) {
    read_block(type, row + (first / 32 + static_cast<size_t>(i)) * static_cast<size_t>(traits(type).bytes), i, c);
  }
}

}  // namespace tokensieve::kernels::cuda
