// Weighted sums over a page of f32, f16 or bf16 values: channels are the lanes, rows are walked, up to 4 query rows
// share each load.
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/page_layout.h"
#include "kernels/cpu/simd_codes.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

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
  const uint8_t* ahead;
  int d, count;
  const float* weights;  // [R][kScoreRow]
  float* out;            // [R][d]
};

// Channels [c, c + 16 C) of a row.
template <DType type, int C>
TS_INLINE void load_values(const uint8_t* row, int c, F* value) {
  TS_UNROLL for (int i = 0; i < C; i++, c += 16) {
    if constexpr (type == DType::f32) value[i] = load(reinterpret_cast<const float*>(row) + c);
    if constexpr (type == DType::f16) value[i] = load_f16(row + 2 * c);
    if constexpr (type == DType::bf16) value[i] = load_bf16(row + 2 * c);
  }
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
  const uint8_t* next = v.ahead + ahead;
  for (int j = 0; j < v.count; j++, row += bytes, next += bytes) {
    for (int line = 0; line < C * 2 * code_bits(type); line += 64) __builtin_prefetch(next + line, 0, kNear);
    F value[C];
    load_values<type, C>(row, c0, value);
    TS_UNROLL for (int c = 0; c < C; c++) {
      TS_UNROLL for (int r = 0; r < R; r++) {
        acc[r][c] =
            fma(set1(v.weights[static_cast<size_t>(r) * kScoreRow + static_cast<size_t>(j)]), value[c], acc[r][c]);
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

}  // namespace

void value_sums(const Slice& slice, int head_size, const float* p, int rows, float* o) noexcept {
  const Piece& piece = slice.piece;
  const size_t start = value_row_bytes(piece.type, head_size) * static_cast<size_t>(piece.first);
  Values v{piece.page + start, slice.ahead, head_size, piece.count, p + slice.column, o};
  for (; rows > 0; rows -= 4, v.weights += 4 * kScoreRow, v.out += 4 * head_size) {
    const int some = rows < 4 ? rows : 4;
    switch (piece.type) {
      case DType::f32: add_some<DType::f32>(v, some); break;
      case DType::f16: add_some<DType::f16>(v, some); break;
      default: add_some<DType::bf16>(v, some); break;
    }
  }
}

}  // namespace tokensieve::kernels::TS_ISA
