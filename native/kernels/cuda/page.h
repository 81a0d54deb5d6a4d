// Where things lie in a page (kernels/kv_page.h has the picture), and reading it: 8 channels of one key, or 4 rows of
// one channel of values, which is what one or two words of codes hold.
#pragma once

#include "device.h"
#include "kernels/kv_page.h"

namespace tokensieve::kernels::cuda {

constexpr int kMaxHeadSize = 256;

__host__ __device__ constexpr bool is_kivi(DType type) { return type == DType::kivi4 || type == DType::kivi2; }
__host__ __device__ constexpr bool is_plain(DType type) {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16;
}
__host__ __device__ constexpr int code_bits(DType type) {
  return type == DType::f32 ? 32 : type == DType::kivi2 ? 2 : is_plain(type) ? 16 : type == DType::q8_0 ? 8 : 4;
}
// All codes of a page: the scales begin here.
__host__ __device__ constexpr size_t code_bytes(DType type, int head_size) {
  return static_cast<size_t>(head_size * kPageRows * code_bits(type) / 8);
}
// What stands for 0 in the codes.
__host__ __device__ constexpr int code_zero(DType type) {
  return type == DType::q8_0 ? 128 : type == DType::q4_0 ? 8 : 0;
}

// Each table of scales or minima holds head_size f16 numbers.
__device__ __forceinline__ const uint16_t* page_scales(const uint8_t* page, DType type, int head_size) {
  return reinterpret_cast<const uint16_t*>(page + code_bytes(type, head_size));
}

template <DType T>
__device__ __forceinline__ float plain_at(const uint8_t* numbers, int i) {
  if (T == DType::f32) return reinterpret_cast<const float*>(numbers)[i];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(numbers)[i];
  return T == DType::f16 ? half_to_float(bits) : bf16_to_float(bits);
}

// Byte i of a word of codes; narrow codes lie `shift` bits up.
template <DType T>
__device__ __forceinline__ float code_of(uint32_t word, int i, int shift) {
  const int mask = T == DType::q8_0 ? 255 : T == DType::kivi2 ? 3 : 15;
  return static_cast<float>(static_cast<int>(word >> (8 * i + shift) & mask) - code_zero(T));
}

__device__ __forceinline__ float first_half(uint32_t two) { return half_to_float(static_cast<uint16_t>(two)); }
__device__ __forceinline__ float second_half(uint32_t two) { return half_to_float(static_cast<uint16_t>(two >> 16)); }

// Index in the tables of scales.
template <DType T>
__device__ __forceinline__ int key_scale(int head_size, int row, int c) {
  return is_kivi(T) ? c : (row / 16 * (head_size / 32) + c / 32) * 16 + row % 16;
}
__device__ __forceinline__ int value_scale(int row, int c) { return c / 32 * kPageRows + row; }

// Channels c .. c + 7 of a key; c is a multiple of 8. Lanes of neighbouring keys read neighbouring words.
template <DType T>
__device__ __forceinline__ void key_channels(const uint8_t* page, int head_size, int row, int c, float x[8]) {
  if (is_plain(T)) {
    const int at = (row / 16 * head_size + c) * 16 + row % 16;
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = plain_at<T>(page, at + 16 * i);
    return;
  }
  const uint32_t* words = reinterpret_cast<const uint32_t*>(page) + row % 16;
  if (T == DType::kivi2) {
    words += c / 8 * 16;
  } else {
    words += ((T == DType::q8_0 ? row / 16 * (head_size / 4) : 0) + c / 4) * 16;
  }
  const uint32_t low = words[0], high = T == DType::kivi2 ? low : words[16];
  const int shift = T == DType::q8_0 ? 0 : row / 16 * code_bits(T), next = T == DType::kivi2 ? 4 : 0;
  const uint16_t* scales = page_scales(page, T, head_size) + key_scale<T>(head_size, row, c);
  if (!is_kivi(T)) {
    const float scale = half_to_float(scales[0]);
#pragma unroll
    for (int i = 0; i < 4; i++) x[i] = code_of<T>(low, i, shift) * scale;
#pragma unroll
    for (int i = 0; i < 4; i++) x[4 + i] = code_of<T>(high, i, shift) * scale;
    return;
  }
  const uint4 s = *reinterpret_cast<const uint4*>(scales), m = *reinterpret_cast<const uint4*>(scales + head_size);
  const uint32_t scale[4] = {s.x, s.y, s.z, s.w}, min[4] = {m.x, m.y, m.z, m.w};
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const float code = i < 4 ? code_of<T>(low, i, shift) : code_of<T>(high, i - 4, shift + next);
    const uint32_t a = scale[i / 2], b = min[i / 2];
    x[i] = i % 2 ? fmaf(code, second_half(a), second_half(b)) : fmaf(code, first_half(a), first_half(b));
  }
}

// Rows 4 quad .. 4 quad + 3 of channel c of values. Lanes of neighbouring channels read neighbouring words.
template <DType T>
__device__ __forceinline__ void value_quad(const uint8_t* page, int head_size, int c, int quad, float x[4]) {
  if (is_plain(T)) {
#pragma unroll
    for (int i = 0; i < 4; i++) x[i] = plain_at<T>(page, (4 * quad + i) * head_size + c);
    return;
  }
  const int group = c / 32;
  int at = (group * 8 + quad) * 32 + c % 32, shift = 0;
  if (T != DType::q8_0) {
    at = (T == DType::kivi2 ? group * 4 + quad / 2 : group * 8 + quad) * 16 + c % 16;
    shift = c % 32 / 16 * code_bits(T) + (T == DType::kivi2 ? quad % 2 * 4 : 0);
  }
  const uint32_t word = reinterpret_cast<const uint32_t*>(page)[at];
  const uint16_t* scales = page_scales(page, T, head_size) + value_scale(4 * quad, c);
  const uint2 s = *reinterpret_cast<const uint2*>(scales);
  uint2 m = make_uint2(0, 0);
  if (is_kivi(T)) m = *reinterpret_cast<const uint2*>(scales + head_size);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const uint32_t a = i < 2 ? s.x : s.y, b = i < 2 ? m.x : m.y;
    const float code = code_of<T>(word, i, shift), scale = i % 2 ? second_half(a) : first_half(a);
    x[i] = is_kivi(T) ? fmaf(code, scale, i % 2 ? second_half(b) : first_half(b)) : code * scale;
  }
}

// One number, of any place: for what is not read often.
template <DType T>
__device__ __forceinline__ float key_at(const uint8_t* page, int head_size, int row, int c) {
  if (is_plain(T)) return plain_at<T>(page, (row / 16 * head_size + c) * 16 + row % 16);
  const int step = T == DType::kivi2 ? 8 : 4;
  int at = c / step * 16 + row % 16, shift = row / 16 * code_bits(T) + c % step / 4 * 4;
  if (T == DType::q8_0) at += row / 16 * head_size * 4, shift = 0;
  const uint32_t word = reinterpret_cast<const uint32_t*>(page)[at];
  const uint16_t* scales = page_scales(page, T, head_size) + key_scale<T>(head_size, row, c);
  const float code = code_of<T>(word, c % 4, shift), scale = half_to_float(scales[0]);
  return is_kivi(T) ? fmaf(code, scale, half_to_float(scales[head_size])) : code * scale;
}
template <DType T>
__device__ __forceinline__ float value_at(const uint8_t* page, int head_size, int row, int c) {
  if (is_plain(T)) return plain_at<T>(page, row * head_size + c);
  float x[4];
  value_quad<T>(page, head_size, c, row / 4, x);
  return row % 4 < 2 ? (row % 4 == 0 ? x[0] : x[1]) : (row % 4 == 2 ? x[2] : x[3]);
}

template <DType T>
struct PageType {
  static constexpr DType type = T;
};

// f(PageType<type>()): one copy of f for each type.
template <class F>
__device__ __forceinline__ void with_page_type(DType type, F&& f) {
  switch (type) {
    case DType::f32: return f(PageType<DType::f32>());
    case DType::f16: return f(PageType<DType::f16>());
    case DType::bf16: return f(PageType<DType::bf16>());
    case DType::q8_0: return f(PageType<DType::q8_0>());
    case DType::q4_0: return f(PageType<DType::q4_0>());
    case DType::kivi4: return f(PageType<DType::kivi4>());
    default: return f(PageType<DType::kivi2>());
  }
}

}  // namespace tokensieve::kernels::cuda
