// Weighted sums over pages of f32, f16 or bf16 values: channels are the lanes, rows are walked, up to 4 query rows share
// each load. Sums stay in registers from page to page.
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
  const Slice* slices;
  int count, d;
  const float* weights;  // [R][kScoreRow]
  float* out;  // [R][d]
};

template <DType type, int C>
TS_INLINE void load_values(const uint8_t* row, F* value) {
  TS_UNROLL for (int c = 0; c < C; c++) {
    if constexpr (type == DType::f32) value[c] = load(reinterpret_cast<const float*>(row) + 16 * c);
    if constexpr (type == DType::f16) value[c] = load_f16(row + 32 * c);
    if constexpr (type == DType::bf16) value[c] = load_bf16(row + 32 * c);
  }
}

// Channels [c0, c0 + 16 C) of one slice.
template <DType type, int R, int C>
TS_INLINE void add_slice(const Slice& slice, int d, int c0, const float* weights, F (&acc)[R][C]) {
  const size_t bytes = value_row_bytes(type, d), start = static_cast<size_t>(c0 * code_bits(type) / 8);
  const uint8_t* row = slice.piece.page + bytes * static_cast<size_t>(slice.piece.first) + start;
  const uint8_t* ahead = slice.ahead + start;
  const float* p = weights + slice.column;
  for (const float* end = p + slice.piece.count; p < end; p++, row += bytes, ahead += bytes) {
    for (int line = 0; line < C * 2 * code_bits(type); line += 64) __builtin_prefetch(ahead + line, 0, kNear);
    F value[C];
    load_values<type, C>(row, value);
    TS_UNROLL for (int r = 0; r < R; r++) {
      const F x = set1(p[static_cast<size_t>(r) * kScoreRow]);
      TS_UNROLL for (int c = 0; c < C; c++) acc[r][c] = fma(x, value[c], acc[r][c]);
    }
  }
}

template <DType type, int R, int C>
TS_INLINE void add_columns(const Values& v, int c0) {
  float* out = v.out + c0;
  const int d = v.d;
  F acc[R][C];
  TS_UNROLL for (int r = 0; r < R; r++) {
    TS_UNROLL for (int c = 0; c < C; c++) acc[r][c] = load(out + r * d + 16 * c);
  }
  for (int i = 0; i < v.count; i++) add_slice<type, R, C>(v.slices[i], d, c0, v.weights, acc);
  TS_UNROLL for (int r = 0; r < R; r++) {
    TS_UNROLL for (int c = 0; c < C; c++) store(out + r * d + 16 * c, acc[r][c]);
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

void value_sums(const Slice* slices, int count, int head_size, const float* p, int rows, float* o) noexcept {
  Values v{slices, count, head_size, p, o};
  for (; rows > 0; rows -= 4, v.weights += 4 * kScoreRow, v.out += 4 * head_size) {
    const int some = rows < 4 ? rows : 4;
    switch (slices->piece.type) {
      case DType::f32: add_some<DType::f32>(v, some); break;
      case DType::f16: add_some<DType::f16>(v, some); break;
      default: add_some<DType::bf16>(v, some); break;
    }
  }
}

}  // namespace tokensieve::kernels::TS_ISA
