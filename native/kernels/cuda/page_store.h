// Writing rows into pages: what the kernels that store rows and those that change pages have in common.
#pragma once

#include "kernels/cuda/page.h"

namespace tokensieve::kernels::cuda {

// Byte of a code, and where in it the code begins.
struct CodeAt {
  size_t byte;
  int shift;
};

__device__ __forceinline__ CodeAt code_at(Side side, DType type, int head_size, int row, int c) {
  const bool keys = side == Side::keys;
  if (type == DType::q8_0) {
    const int word = keys ? (row / 16 * (head_size / 4) + c / 4) * 16 + row % 16 : (c / 32 * 8 + row / 4) * 32 + c % 32;
    return {static_cast<size_t>(word) * 4 + (keys ? c : row) % 4, 0};
  }
  const int step = type == DType::kivi2 ? 8 : 4, along = keys ? c : row;
  const int word = keys ? c / step * 16 + row % 16 : (c / 32 * (kPageRows / step) + row / step) * 16 + c % 16;
  const int half = keys ? row / 16 : c % 32 / 16;
  return {static_cast<size_t>(word) * 4 + along % 4, half * code_bits(type) + along % step / 4 * 4};
}

__device__ __forceinline__ void put_bits(uint8_t* byte, int shift, int bits, int code) {
  const int mask = ((1 << bits) - 1) << shift;
  *byte = static_cast<uint8_t>((*byte & ~mask) | code << shift);
}

__device__ __forceinline__ int scale_at(Side side, int head_size, int row, int c) {
  return side == Side::keys ? key_scale<DType::q8_0>(head_size, row, c) : value_scale(row, c);
}

__device__ __forceinline__ int plain_place(Side side, int head_size, int row, int c) {
  return side == Side::keys ? (row / 16 * head_size + c) * 16 + row % 16 : row * head_size + c;
}

__device__ __forceinline__ void store_plain(Side side, DType type, uint8_t* page, int head_size, const float* x,
                                            int row, int lane) {
  for (int c = lane; c < head_size; c += 32) {
    const int at = plain_place(side, head_size, row, c);
    if (type == DType::f32) {
      reinterpret_cast<float*>(page)[at] = x[c];
    } else {
      reinterpret_cast<uint16_t*>(page)[at] = type == DType::f16 ? float_to_half(x[c]) : float_to_bf16(x[c]);
    }
  }
}

__device__ __forceinline__ float largest(float x) {
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}

// What 32 numbers are coded against, as it is stored.
struct Scale {
  uint16_t scale, min;
};

// A number's code against what will be read back.
__device__ __forceinline__ int kivi_code(float x, Scale s, float top) {
  const float scale = half_to_float(s.scale);
  const float code = scale > 0 ? (x - half_to_float(s.min)) / scale : 0.0f;
  return __float2int_rn(fminf(fmaxf(code, 0.0f), top));
}

// One number a lane.
__device__ __forceinline__ int quantize_group(DType type, float x, Scale* s) {
  if (is_kivi(type)) {
    const float top = type == DType::kivi4 ? 15.0f : 3.0f, high = largest(x), low = -largest(-x);
    *s = {float_to_half((high - low) / top), float_to_half(low)};
    return kivi_code(x, *s, top);
  }
  const float magnitude = largest(fabsf(x));
  float scale = magnitude / 127;
  if (type == DType::q4_0) {  // the first of the largest, with its sign
    const unsigned peaks = __ballot_sync(0xffffffffu, fabsf(x) == magnitude);
    scale = __shfl_sync(0xffffffffu, x, peaks ? __ffs(static_cast<int>(peaks)) - 1 : 0) / -8;
  }
  const float inverse = fabsf(scale) > 1e-30f ? 1 / scale : 0.0f;  // smaller ones are 0 in f16
  *s = {float_to_half(scale), 0};
  const int code = __float2int_rn(x * inverse) + code_zero(type), most = type == DType::q8_0 ? 255 : 15;
  return code < most ? code : most;
}

__device__ __forceinline__ void store_quantized(Side side, DType type, uint8_t* page, int head_size, const float* x,
                                                int row, int lane) {
  uint16_t* scales = reinterpret_cast<uint16_t*>(page + code_bytes(type, head_size));
  for (int c = lane; c < head_size; c += 32) {
    Scale s;
    const int code = quantize_group(type, x[c], &s);
    const int other = __shfl_xor_sync(0xffffffffu, code, 16);
    const CodeAt at = code_at(side, type, head_size, row, c);
    uint8_t* const byte = page + at.byte;
    const int bits = code_bits(type);
    if (bits == 8) {
      *byte = static_cast<uint8_t>(code);
    } else if (side == Side::keys) {
      put_bits(byte, at.shift, bits, code);
    } else if (lane < 16) {  // channels c and c + 16 lie beside each other
      put_bits(byte, at.shift, 2 * bits, code | other << bits);
    }
    if (lane != 0) continue;
    const int to = scale_at(side, head_size, row, c);
    scales[to] = s.scale;
    if (is_kivi(type)) scales[head_size + to] = s.min;
  }
}

// A row of x [head_size] by one warp. Rows that share bytes are 4 or 16 apart: whoever gives a warp every fourth row, by
// the row's place in the page, has no two threads write one byte.
__device__ __forceinline__ void store_row(Side side, DType type, uint8_t* page, int head_size, const float* x, int row,
                                          int lane) {
  if (is_plain(type)) {
    store_plain(side, type, page, head_size, x, row, lane);
  } else {
    store_quantized(side, type, page, head_size, x, row, lane);
  }
}

// Channel c of all 32 rows of a page of kivi keys, by a warp whose lanes have the 32 channels from a multiple of 32 on.
// x(row): its numbers.
template <class Rows>
__device__ __forceinline__ void store_kivi_channel(DType type, int head_size, uint8_t* page, int c, Rows&& x) {
  const int bits = code_bits(type);
  const float top = type == DType::kivi4 ? 15.0f : 3.0f;
  float low = x(0), high = low;
  for (int r = 1; r < kPageRows; r++) {
    low = fminf(low, x(r));
    high = fmaxf(high, x(r));
  }
  const Scale s = {float_to_half((high - low) / top), float_to_half(low)};
  for (int r = 0; r < 16; r++) {
    const int code = kivi_code(x(r), s, top) | kivi_code(x(r + 16), s, top) << bits;
    const int other = __shfl_xor_sync(0xffffffffu, code, 4);
    uint8_t* const byte = page + code_at(Side::keys, type, head_size, r, c).byte;
    if (type == DType::kivi4) *byte = static_cast<uint8_t>(code);
    if (type == DType::kivi2 && c % 8 < 4) *byte = static_cast<uint8_t>(code | other << 4);
  }
  uint16_t* scales = reinterpret_cast<uint16_t*>(page + code_bytes(type, head_size));
  scales[c] = s.scale;
  scales[head_size + c] = s.min;
}

}  // namespace tokensieve::kernels::cuda
