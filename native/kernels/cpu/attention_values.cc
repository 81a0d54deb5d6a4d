// Weighted sums over a page of values: channels are the lanes, rows are walked, up to 4 query rows share each load.
//
// Scales of quantized rows are multiplied into the weights once a page, 16 rows at a time; the part of kivi's minima is
// one number a query row and group of 32 channels, gathered lane by lane and added once a split.
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
  float* out;  // [R][d]
};

// Channels [c, c + 16 C) of a row.
template <DType type, int C>
TS_INLINE void load_values(const uint8_t* row, int c, F* value) {
  TS_UNROLL for (int i = 0; i < C; i++, c += 16) {
    if constexpr (type == DType::f32) value[i] = load(reinterpret_cast<const float*>(row) + c);
    if constexpr (type == DType::f16) value[i] = load_f16(row + 2 * c);
    if constexpr (type == DType::bf16) value[i] = load_bf16(row + 2 * c);
    if constexpr (type == DType::q8_0) value[i] = load_i8(row + c);
    if constexpr (code_bits(type) < 8) {
      const uint8_t* group = row + c / 32 * 4 * code_bits(type);
      const I x = type == DType::kivi2 ? widen_twice(group) : widen(group);
      constexpr int bits = code_bits(type), zero = type == DType::q4_0 ? 8 : 0;
      if constexpr (C > 1) {  // a whole group
        value[i] = field<bits, zero>(x, 0);
        value[i + 1] = field<bits, zero>(x, 4);
        i++, c += 16;
      } else {
        value[i] = field<bits, zero>(x, c % 32 / 4);
      }
    }
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
  const uint8_t* next = v.next + ahead;
  for (int j = 0; j < v.count; j++, row += bytes, next += bytes) {
    for (int line = 0; line < C * 2 * code_bits(type); line += 64) __builtin_prefetch(next + line);
    F value[C];
    load_values<type, C>(row, c0, value);
    TS_UNROLL for (int c = 0; c < C; c++) {
      const float* w = v.weights + j + static_cast<size_t>((c0 + 16 * c) / 32) * v.group_step;
      TS_UNROLL for (int r = 0; r < R; r++) {
        acc[r][c] = fma(set1(w[static_cast<size_t>(r) * v.row_step]), value[c], acc[r][c]);
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
    case DType::kivi4: return add_some<DType::kivi4>(v, rows);
    case DType::kivi2: return add_some<DType::kivi2>(v, rows);
    default: return add_some<DType::q4_0>(v, rows);
  }
}

// weights [rows][groups][32] = p times the scales, by row of the page.
void weigh(const Piece& piece, int head_size, const float* p, size_t ldp, int rows, float* weights) {
  const int groups = head_size / 32;
  for (int g = 0; g < groups; g++) {
    const uint16_t* scales = page_scales(piece.page, piece.type, head_size) + kPageRows * g;
    const F low = load_f16(scales), high = load_f16(scales + 16);
    for (int r = 0; r < rows; r++) {
      const float* x = p + static_cast<size_t>(r) * ldp;
      float* y = weights + kPageRows * (r * groups + g);
      store(y, mul(load(x), low));
      store(y + 16, mul(load(x + 16), high));
    }
  }
}

// shifts [rows][groups][16] += p times the minima. `inside`: 1 for rows of the piece; the others may hold anything, so
// that their products are replaced, not multiplied by 0.
void shift(const Piece& piece, int head_size, const float* p, size_t ldp, int rows, const float* inside,
           float* shifts) {
  const int groups = head_size / 32;
  const F in_low = load(inside), in_high = load(inside + 16);
  for (int g = 0; g < groups; g++) {
    const uint16_t* minima = page_scales(piece.page, piece.type, head_size) + head_size + kPageRows * g;
    const F low = select_less(zero(), in_low, load_f16(minima), zero());
    const F high = select_less(zero(), in_high, load_f16(minima + 16), zero());
    for (int r = 0; r < rows; r++) {
      const float* x = p + static_cast<size_t>(r) * ldp;
      float* y = shifts + 16 * (r * groups + g);
      store(y, fma(load(x + 16), high, fma(load(x), low, load(y))));
    }
  }
}

// The rows' probabilities where the page begins: in place if the piece is a whole page, else in `lines` [4][32].
const float* page_lines(const Piece& piece, const float* p, int rows, size_t* ldp, float* lines) {
  *ldp = kScoreRow;
  if (piece.count == kPageRows) return p;
  *ldp = kPageRows;
  for (int r = 0; r < rows; r++) {
    float* y = lines + kPageRows * r;
    store(y, zero());
    store(y + 16, zero());
    for (int j = 0; j < piece.count; j++)
      y[piece.first + j] = p[kScoreRow * static_cast<size_t>(r) + static_cast<size_t>(j)];
  }
  return lines;
}

}  // namespace

void value_sums(const Piece& piece, int head_size, const uint8_t* next, const float* p, int rows, float* o,
                float* shifts) noexcept {
  alignas(64) float weights[4 * kGroups * kPageRows], lines[4 * kPageRows], inside[kPageRows] = {};
  const size_t start = value_row_bytes(piece.type, head_size) * static_cast<size_t>(piece.first);
  Values v{piece.page + start, next, head_size, piece.count, p, kScoreRow, 0, o};
  for (int j = piece.first; is_kivi(piece.type) && j < piece.first + piece.count; j++) inside[j] = 1;
  for (; rows > 0; rows -= 4, p += 4 * kScoreRow, v.out += 4 * head_size, shifts += 2 * head_size) {
    const int some = rows < 4 ? rows : 4;
    v.weights = p;
    if (!is_plain(piece.type)) {
      size_t ldp;
      const float* x = page_lines(piece, p, some, &ldp, lines);
      weigh(piece, head_size, x, ldp, some, weights);
      if (is_kivi(piece.type)) shift(piece, head_size, x, ldp, some, inside, shifts);
      v.weights = weights + piece.first;
      v.row_step = static_cast<size_t>(head_size / 32 * kPageRows);
      v.group_step = kPageRows;
    }
    add_page(piece.type, v, some);
  }
}

void add_shifts(const float* shifts, int head_size, int rows, float* o) noexcept {
  for (int i = 0; i < rows * head_size; i += 32, shifts += 16) {
    const F sum = set1(reduce_add(load(shifts)));
    store(o + i, add(load(o + i), sum));
    store(o + i + 16, add(load(o + i + 16), sum));
  }
}

}  // namespace tokensieve::kernels::TS_ISA
