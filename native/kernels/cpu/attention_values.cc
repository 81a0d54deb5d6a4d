// Weighted sums over a page of values: channels are the lanes, rows are walked, up to 4 query rows share each load.
//
// Scales of quantized rows are multiplied into the weights once a page, 16 rows at a time; what does not depend on the code
// (kivi's minimum, q4_0's zero point: -8 scales) is one number a query row and group of 32 channels, added at the end.
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/page_layout.h"
#include "kernels/cpu/simd_codes.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

constexpr int kGroups = kMaxHeadSize / 32;

// Registers of 16 channels that R query rows walk down together: enough sums to hide an FMA's latency.
constexpr int columns(int rows) {
#if defined(TS_ISA_AVX512)
  return rows > 0 ? 4 : 0;
#else
  return rows == 1 ? 4 : rows == 2 ? 2 : 1;
#endif
}

struct Values {
  const uint8_t* codes;  // of the first row
  const uint8_t* next;
  int d, count;
  const float* weights;  // [R][row_step], for quantized rows [R][group][32]
  size_t row_step, group_step;
  float* out;            // [R][d]
};

// Channels [c, c + 16) of a row.
template <DType type>
TS_INLINE F load_value(const uint8_t* row, int c) {
  if constexpr (type == DType::f32) return load(reinterpret_cast<const float*>(row) + c);
  if constexpr (type == DType::f16) return load_f16(row + 2 * c);
  if constexpr (type == DType::bf16) return load_bf16(row + 2 * c);
  if constexpr (type == DType::q8_0) return load_i8(row + c);
  if constexpr (type == DType::kivi2) return load_bits_twice(row + c / 32 * 8, c % 32 / 4);
  return load_bits<15>(row + c / 32 * 16, c % 32 / 4);
}

template <DType type, int R, int C>
TS_INLINE void add_columns(const Values& v, int c0) {
  const size_t bytes = value_row_bytes(type, v.d);
  const size_t ahead = static_cast<size_t>(c0 * code_bits(type) / 8);
  F acc[R][C];
  TS_UNROLL for (int r = 0; r < R; r++) {
    TS_UNROLL for (int c = 0; c < C; c++) acc[r][c] = load(v.out + r * v.d + c0 + 16 * c);
  }
  const uint8_t* row = v.codes;
  const uint8_t* next = v.next + ahead;
  for (int j = 0; j < v.count; j++, row += bytes, next += bytes) {
    for (int line = 0; line < C * 2 * code_bits(type); line += 64) __builtin_prefetch(next + line);
    TS_UNROLL for (int c = 0; c < C; c++) {
      const F value = load_value<type>(row, c0 + 16 * c);
      const float* w = v.weights + j + static_cast<size_t>((c0 + 16 * c) / 32) * v.group_step;
      TS_UNROLL for (int r = 0; r < R; r++) {
        acc[r][c] = fma(set1(w[static_cast<size_t>(r) * v.row_step]), value, acc[r][c]);
      }
    }
  }
  TS_UNROLL for (int r = 0; r < R; r++) {
    TS_UNROLL for (int c = 0; c < C; c++) store(v.out + r * v.d + c0 + 16 * c, acc[r][c]);
  }
}

template <DType type, int R>
void add_rows(const Values& v) {
  int c = 0;
  for (; c + 16 * columns(R) <= v.d; c += 16 * columns(R)) add_columns<type, R, columns(R)>(v, c);
  for (; c < v.d; c += 16) add_columns<type, R, 1>(v, c);
}

template <DType type>
TS_INLINE void add_some(const Values& v, int rows) {
  if (rows == 1) return add_rows<type, 1>(v);
  if (rows == 2) return add_rows<type, 2>(v);
  if (rows == 3) return add_rows<type, 3>(v);
  add_rows<type, 4>(v);
}

void add_page(DType type, const Values& v, int rows) {
  switch (type) {
    case DType::f32: return add_some<DType::f32>(v, rows);
    case DType::f16: return add_some<DType::f16>(v, rows);
    case DType::bf16: return add_some<DType::bf16>(v, rows);
    case DType::q8_0: return add_some<DType::q8_0>(v, rows);
    case DType::kivi2: return add_some<DType::kivi2>(v, rows);
    default: return add_some<DType::q4_0>(v, rows);  // kivi4 has the same codes
  }
}

// What a group of 32 channels has in common in the 32 rows of a page.
struct Group {
  F scale[2], shift[2];
};

TS_INLINE Group load_group(const Piece& piece, int head_size, int g) {
  const uint16_t* scales = page_scales(piece.page, piece.type, head_size) + kPageRows * g;
  Group group = {{load_f16(scales), load_f16(scales + 16)}, {zero(), zero()}};
  TS_UNROLL for (int h = 0; h < 2; h++) {
    if (is_kivi(piece.type)) group.shift[h] = load_f16(scales + head_size + 16 * h);
    if (piece.type == DType::q4_0) group.shift[h] = mul(group.scale[h], set1(-8));
  }
  return group;
}

// weights [rows][groups][32], by row of the page; shifts are added to o. Rows outside the piece may hold anything, so that
// their part of the sum is replaced, not multiplied by 0.
void weigh(const Piece& piece, int head_size, const float* p, int rows, float* weights, float* o) {
  alignas(64) float inside[kPageRows] = {}, line[kPageRows] = {};
  for (int j = piece.first; j < piece.first + piece.count; j++) inside[j] = 1;
  for (int r = 0; r < rows; r++, p += kScoreRow, o += head_size) {
    __builtin_memcpy(line + piece.first, p, 4 * static_cast<size_t>(piece.count));
    for (int g = 0; g < head_size / 32; g++, weights += kPageRows) {
      const Group group = load_group(piece, head_size, g);
      F part[2];
      TS_UNROLL for (int h = 0; h < 2; h++) {
        const F x = load(line + 16 * h);
        store(weights + 16 * h, mul(x, group.scale[h]));
        part[h] = select_less(zero(), load(inside + 16 * h), mul(x, group.shift[h]), zero());
      }
      if (piece.type == DType::q8_0) continue;
      const F shift = set1(reduce_add(add(part[0], part[1])));
      store(o + 32 * g, add(load(o + 32 * g), shift));
      store(o + 32 * g + 16, add(load(o + 32 * g + 16), shift));
    }
  }
}

}  // namespace

void value_sums(const Piece& piece, int head_size, const uint8_t* next, const float* p, int rows, float* o) noexcept {
  alignas(64) float weights[4 * kGroups * kPageRows];
  const size_t start = value_row_bytes(piece.type, head_size) * static_cast<size_t>(piece.first);
  Values v{piece.page + start, next, head_size, piece.count, p, kScoreRow, 0, o};
  for (; rows > 0; rows -= 4, p += 4 * kScoreRow, v.out += 4 * head_size) {
    const int some = rows < 4 ? rows : 4;
    v.weights = p;
    if (!is_plain(piece.type)) {
      weigh(piece, head_size, p, some, weights, v.out);
      v.weights = weights + piece.first;
      v.row_step = static_cast<size_t>(head_size / 32 * kPageRows);
      v.group_step = kPageRows;
    }
    add_page(piece.type, v, some);
  }
}

}  // namespace tokensieve::kernels::TS_ISA
