// Opening pages. Every value is the nearest f32 of its format's formula, as the reference reads it: code * scale, and
// for kivi the product and the minimum added in two roundings.
#include "kernels/cpu/kv_expand.h"

#include "kernels/cpu/page_layout.h"
#include "kernels/cpu/simd_codes.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

template <DType type>
TS_INLINE F load_plain(const uint8_t* codes, size_t i) {
  if constexpr (type == DType::f32) return load(reinterpret_cast<const float*>(codes) + i);
  if constexpr (type == DType::f16) return load_f16(codes + 2 * i);
  return load_bf16(codes + 2 * i);
}

template <DType type>
void open_plain(const uint8_t* codes, size_t n, float* out) {
  for (size_t i = 0; i < n; i += 16) store(out + i, load_plain<type>(codes, i));
}

void open_plain(DType type, const uint8_t* codes, size_t n, float* out) {
  if (type == DType::f32) return open_plain<DType::f32>(codes, n, out);
  if (type == DType::f16) return open_plain<DType::f16>(codes, n, out);
  open_plain<DType::bf16>(codes, n, out);
}

template <DType type>
void open_scaled_keys(const uint8_t* page, int head_size, int block, float* out) {
  constexpr int bits = code_bits(type), zero = code_zero(type);
  const uint16_t* scales = page_scales(page, type, head_size) + block * (head_size / 2);
  const uint8_t* codes = page + (bits == 8 ? key_block_bytes(type, head_size) * static_cast<size_t>(block) : 0);
  const bool high = bits == 4 && block == 1;
  for (int g = 0; g < head_size / 32; g++) {
    const F scale = load_f16(scales + 16 * g);
    for (int i = 0; i < 8; i++, codes += 64) {
      const I x = fours(codes);
      TS_UNROLL for (int j = 0; j < 4; j++, out += 16) {
        store(out, mul(high ? field<bits, zero>(x, 8 * j + 4) : field<bits, zero>(x, 8 * j), scale));
      }
    }
  }
}

void open_kivi_keys(DType type, int head_size, const uint8_t* page, int block, float* out) {
  const uint16_t* scales = page_scales(page, type, head_size);
  alignas(64) float scale[16], min[16];
  for (int c = 0; c < head_size; c++) {
    if (c % 16 == 0) {
      store(scale, load_f16(scales + c));
      store(min, load_f16(scales + head_size + c));
    }
    const F code = type == DType::kivi4
                       ? field<4, 0>(fours(page + 64 * (c / 4)), 8 * (c % 4) + 4 * block)
                       : field<2, 0>(fours(page + 64 * (c / 8)), 8 * (c % 4) + c % 8 / 4 * 4 + 2 * block);
    store(out + 16 * c, add(mul(code, set1(scale[c % 16])), set1(min[c % 16])));
  }
}

// 32 channels of row r of a value page (codes: those of the group), not scaled.
TS_INLINE void group_codes(DType type, const uint8_t* codes, int r, F* low, F* high) {
  const int shift = 8 * (r % 4);
  if (type == DType::q8_0) {
    *low = field<8, 128>(fours(codes + r / 4 * 128), shift);
    *high = field<8, 128>(fours(codes + r / 4 * 128 + 64), shift);
  } else if (type == DType::kivi2) {
    const I x = fours(codes + r / 8 * 64);
    *low = field<2, 0>(x, shift + r % 8 / 4 * 4);
    *high = field<2, 0>(x, shift + r % 8 / 4 * 4 + 2);
  } else {
    const I x = fours(codes + r / 4 * 64);
    *low = type == DType::kivi4 ? field<4, 0>(x, shift) : field<4, 8>(x, shift);
    *high = type == DType::kivi4 ? field<4, 0>(x, shift + 4) : field<4, 8>(x, shift + 4);
  }
}

void open_value_groups(DType type, int head_size, const uint8_t* page, int row, float* out) {
  const uint8_t* codes = page;
  const int groups = head_size / 32;
  const uint16_t* scales = page_scales(page, type, head_size) + row;
  uint16_t both[32] = {};  // this row's scales and minima
  for (int g = 0; g < groups; g++) {
    both[g] = scales[kPageRows * g];
    if (is_kivi(type)) both[16 + g] = scales[head_size + kPageRows * g];
  }
  alignas(64) float scale[16], min[16];
  store(scale, load_f16(both));
  store(min, load_f16(both + 16));
  for (int g = 0; g < groups; g++, codes += value_group_bytes(type), out += 32) {
    F low, high;
    group_codes(type, codes, row, &low, &high);
    low = mul(low, set1(scale[g]));
    high = mul(high, set1(scale[g]));
    store(out, is_kivi(type) ? add(low, set1(min[g])) : low);
    store(out + 16, is_kivi(type) ? add(high, set1(min[g])) : high);
  }
}

void rotate_block(const AttentionShape& shape, int slot, float* block) {
  const int half = shape.rotated / 2, left = shape.table_rows - slot;
  const float* cos = shape.cos + slot;
  const float* sin = shape.sin + slot;
  for (int c = 0; c < half; c++, cos += shape.table_rows, sin += shape.table_rows) {
    float* x = block + 16 * c;
    float* y = x + 16 * half;
    const F a = load(x), b = load(y);
    const F k = left < 16 ? load_part(cos, left) : load(cos), s = left < 16 ? load_part(sin, left) : load(sin);
    store(x, fnma(b, s, mul(a, k)));
    store(y, fma(a, s, mul(b, k)));
  }
}

// Up to 16 rows that do not lie as one block of a page: opened piece by piece, lane by lane.
Cursor gather_keys(const View& view, int head_size, Cursor at, int n, float* out) {
  alignas(64) float block[16 * kMaxHeadSize];
  for (int lane = 0; lane < n;) {
    at = settle(view.keys, at);
    const Piece& piece = view.keys[at.piece];
    const int row = piece.first + at.row, room = 16 - row % 16, rest = piece.count - at.row;
    int take = n - lane < room ? n - lane : room;
    take = take < rest ? take : rest;
    open_key_block(piece.type, head_size, piece.page, row / 16, block);
    for (int c = 0; c < head_size; c++) {
      for (int i = 0; i < take; i++) out[16 * c + lane + i] = block[16 * c + row % 16 + i];
    }
    lane += take;
    at.row += take;
  }
  return at;
}

}  // namespace

void open_key_block(DType type, int head_size, const uint8_t* page, int block, float* out) noexcept {
  if (is_kivi(type)) return open_kivi_keys(type, head_size, page, block, out);
  if (type == DType::q8_0) return open_scaled_keys<DType::q8_0>(page, head_size, block, out);
  if (type == DType::q4_0) return open_scaled_keys<DType::q4_0>(page, head_size, block, out);
  const uint8_t* codes = page + key_block_bytes(type, head_size) * static_cast<size_t>(block);
  open_plain(type, codes, static_cast<size_t>(head_size) * 16, out);
}

void open_value_rows(DType type, int head_size, const uint8_t* page, int first, int count, float* out,
                     size_t ld) noexcept {
  for (int r = first; r < first + count; r++, out += ld) {
    if (is_plain(type)) {
      open_plain(type, page + value_row_bytes(type, head_size) * static_cast<size_t>(r), static_cast<size_t>(head_size),
                 out);
    } else {
      open_value_groups(type, head_size, page, r, out);
    }
  }
}

Cursor open_keys(const AttentionShape& shape, const View& view, Cursor at, int row, int n, float* out) noexcept {
  at = settle(view.keys, at);
  const Piece& piece = view.keys[at.piece];
  const int start = piece.first + at.row;
  if (start % 16 == 0 && piece.count - at.row >= n) {
    open_key_block(piece.type, shape.head_size, piece.page, start / 16, out);
    at.row += n;
  } else {
    at = gather_keys(view, shape.head_size, at, n, out);
  }
  if (shape.cos) rotate_block(shape, row, out);
  return at;
}

Cursor open_values(const View& view, int head_size, Cursor at, int n, float* out) noexcept {
  while (n > 0) {
    at = settle(view.values, at);
    const Piece& piece = view.values[at.piece];
    const int rest = piece.count - at.row, take = n < rest ? n : rest;
    open_value_rows(piece.type, head_size, piece.page, piece.first + at.row, take, out, static_cast<size_t>(head_size));
    out += static_cast<size_t>(take) * static_cast<size_t>(head_size);
    n -= take;
    at.row += take;
  }
  return at;
}

}  // namespace tokensieve::kernels::TS_ISA
