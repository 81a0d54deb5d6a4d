// Where things lie in a page (kernels/kv_page.h has the picture).
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/kv_page.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

constexpr int kMaxHeadSize = 256;
constexpr int kNear = 2;  // where what is read some pages later is fetched to: the second level

TS_INLINE constexpr bool is_kivi(DType type) { return type == DType::kivi4 || type == DType::kivi2; }
TS_INLINE constexpr bool is_plain(DType type) {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16;
}
TS_INLINE constexpr int code_bits(DType type) {
  return type == DType::f32 ? 32 : type == DType::kivi2 ? 2 : is_plain(type) ? 16 : type == DType::q8_0 ? 8 : 4;
}

// All codes of a page: the scales begin here.
TS_INLINE constexpr size_t code_bytes(DType type, int head_size) {
  return static_cast<size_t>(head_size * kPageRows * code_bits(type) / 8);
}
// A block of 16 keys (of the types whose two blocks do not share bytes).
TS_INLINE constexpr size_t key_block_bytes(DType type, int head_size) { return code_bytes(type, head_size) / 2; }
// A row of values of f32, f16 or bf16.
TS_INLINE constexpr size_t value_row_bytes(DType type, int head_size) {
  return code_bytes(type, head_size) / kPageRows;
}
// 32 channels of all values of a quantized page.
TS_INLINE constexpr size_t value_group_bytes(DType type) { return code_bytes(type, 32); }
// What stands for 0 in the codes.
TS_INLINE constexpr int code_zero(DType type) { return type == DType::q8_0 ? 128 : type == DType::q4_0 ? 8 : 0; }

// Each table of scales or minima holds head_size f16 numbers: in key pages [block][head_size / 32][16], or [head_size]
// for kivi; in value pages [head_size / 32][32].
TS_INLINE const uint16_t* page_scales(const uint8_t* page, DType type, int head_size) {
  return reinterpret_cast<const uint16_t*>(page + code_bytes(type, head_size));
}
TS_INLINE uint16_t* page_scales(uint8_t* page, DType type, int head_size) {
  return reinterpret_cast<uint16_t*>(page + code_bytes(type, head_size));
}

// The scales and minima of a page that is read later.
TS_INLINE void fetch_tables(const uint8_t* page, DType type, int head_size) {
  const size_t start = code_bytes(type, head_size), bytes = static_cast<size_t>(head_size * (is_kivi(type) ? 4 : 2));
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(page + start + at, 0, kNear);
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
