// Scores of a page of quantized keys: exact sums of codes times the query in integers of 15 bits, for q4_0 of 8.
// 16 keys are the lanes, 4 channels are taken at a time, up to kDotRows query rows share each load.
//
// q8_0 and q4_0 scale the sum over 32 channels; kivi's scales belong to channels: they go into the query, once a page,
// before it becomes integers, and its minima are one number a query row.
#include "kernels/cpu/attention_dots.h"
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/page_layout.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

struct Keys {
  const uint8_t* page;
  const uint8_t* ahead;
  int d;
  const uint8_t* x;  // [R][2 d]
  const float* scales;  // [R][d / 32], for kivi [R]
  const int32_t* zeros;  // [R][d / 32], what the totals hold of the codes' zero
  const float* starts;  // kivi: [R], the part of the minima
};

// 32 channels from group g on of blocks [first, first + B).
template <DType type, int R, int first, int B>
TS_INLINE void add_group(const Keys& k, int g, Sum (*acc)[R]) {
  constexpr int bits = code_bits(type), units = bits == 2 ? 2 : 1;  // units of 4 channels in a register of codes
  constexpr int digits = type == DType::q4_0 ? 1 : 2;
  const size_t step = static_cast<size_t>(2 * k.d), block = key_block_bytes(type, k.d);
  const size_t place = static_cast<size_t>(512 / units * g);
  const uint8_t* codes = k.page + place;
  const uint8_t* ahead = k.ahead + place * (bits == 8 ? 2 : 1);
  const uint8_t* x = k.x + 64 * g;
  TS_UNROLL for (int i = 0; i < 8 / units; i++, codes += 64, ahead += bits == 8 ? 128 : 64) {
    __builtin_prefetch(ahead, 0, kNear);
    if constexpr (bits == 8) {
      __builtin_prefetch(ahead + 64, 0, kNear);
      TS_UNROLL for (int b = 0; b < B; b++) {
        add_dots<8, 2, R>(acc[b], load_codes(codes + static_cast<size_t>(first + b) * block), x + unit_at(i), step);
      }
    } else {
      const Codes all = load_codes(codes);
      TS_UNROLL for (int u = 0; u < units; u++) {
        TS_UNROLL for (int b = 0; b < B; b++) {
          add_dots<bits, digits, R>(acc[b], field_of<bits>(all, 2 * u + first + b), x + unit_at(units * i + u), step);
        }
      }
    }
  }
}

template <DType type, int R, int first, int B>
TS_INLINE void scaled_blocks(const Keys& k, float* s, size_t lds) {
  const uint16_t* scales = page_scales(k.page, type, k.d) + first * (k.d / 2);
  const int groups = k.d / 32;
  F part[B][R];
  TS_UNROLL for (int b = 0; b < B; b++) { TS_UNROLL for (int r = 0; r < R; r++) part[b][r] = zero(); }
  for (int g = 0; g < groups; g++) {
    Sum acc[B][R];
    TS_UNROLL for (int b = 0; b < B; b++) { TS_UNROLL for (int r = 0; r < R; r++) acc[b][r] = none(); }
    add_group<type, R, first, B>(k, g, acc);
    TS_UNROLL for (int b = 0; b < B; b++) {
      const F scale = load_f16(scales + b * (k.d / 2) + 16 * g);
      TS_UNROLL for (int r = 0; r < R; r++) {
        const I sum = subi(total(acc[b][r]), set1i(k.zeros[r * groups + g]));
        part[b][r] = fma(to_f32(sum), mul(scale, set1(k.scales[r * groups + g])), part[b][r]);
      }
    }
  }
  TS_UNROLL for (int b = 0; b < B; b++) {
    TS_UNROLL for (int r = 0; r < R; r++) store(s + static_cast<size_t>(r) * lds + 16 * (first + b), part[b][r]);
  }
}

template <DType type, int R, int first, int B>
TS_INLINE void kivi_blocks(const Keys& k, float* s, size_t lds) {
  Sum acc[B][R];
  TS_UNROLL for (int b = 0; b < B; b++) { TS_UNROLL for (int r = 0; r < R; r++) acc[b][r] = none(); }
  for (int g = 0; g < k.d / 32; g++) add_group<type, R, first, B>(k, g, acc);
  TS_UNROLL for (int b = 0; b < B; b++) {
    TS_UNROLL for (int r = 0; r < R; r++) {
      const F score = fma(to_f32(total(acc[b][r])), set1(k.scales[r]), set1(k.starts[r]));
      store(s + static_cast<size_t>(r) * lds + 16 * (first + b), score);
    }
  }
}

// All 32 rows of the page -> s [R][lds].
template <DType type, int R>
void page_dots(const Keys& k, float* s, size_t lds) {
  if constexpr (is_kivi(type)) {
    kivi_blocks<type, R, 0, kDotBlocks>(k, s, lds);
    if constexpr (kDotBlocks == 1) kivi_blocks<type, R, 1, 1>(k, s, lds);
  } else {
    scaled_blocks<type, R, 0, kDotBlocks>(k, s, lds);
    if constexpr (kDotBlocks == 1) scaled_blocks<type, R, 1, 1>(k, s, lds);
  }
}

template <DType type>
void row_dots(const Keys& k, int rows, float* s, size_t lds) {
  if (rows == 1) return page_dots<type, 1>(k, s, lds);
  if (rows == 2) return page_dots<type, 2>(k, s, lds);
  if constexpr (kDotRows == 4) {
    if (rows == 4) return page_dots<type, 4>(k, s, lds);
  }
  page_dots<type, 3>(k, s, lds);
}

// n numbers -> integers within kMost, multiples of `unit`, packed; returns their scale, sets the sum of the integers.
TS_INLINE float pack_row(const float* x, int n, int unit, uint8_t* units, int32_t* sum) {
  F top = zero();
  for (int c = 0; c < n; c += 16) top = max(top, abs(load(x + c)));
  float inverse;
  const float scale = number_scale(reduce_max(top), &inverse);
  const F by = set1(inverse / static_cast<float>(unit));
  I all = zeroi();
  for (int c = 0; c < n; c += 32) {
    const I a = muli(to_i32(mul(load(x + c), by)), set1i(unit)),
            b = muli(to_i32(mul(load(x + c + 16), by)), set1i(unit));
    all = addi(all, addi(a, b));
    pack(a, b, units + 2 * c);
  }
  *sum = reduce_addi(all);
  return scale;
}

// units [rows][2 d], scales [rows] of q times the page's scales, starts[r] = q[r] . minima.
void scale_kivi(const Piece& piece, const float* q, int d, int rows, uint8_t* units, float* scales, float* starts) {
  const uint16_t* table = page_scales(piece.page, piece.type, d);
  alignas(64) float scaled[kMaxHeadSize];
  for (int r = 0; r < rows; r++, q += d, units += 2 * d) {
    F sum = zero();
    for (int c = 0; c < d; c += 16) {
      const F x = load(q + c);
      store(scaled + c, mul(x, load_f16(table + c)));
      sum = fma(x, load_f16(table + d + c), sum);
    }
    int32_t unused;
    scales[r] = pack_row(scaled, d, 1, units, &unused);
    starts[r] = reduce_add(sum);
  }
}

}  // namespace

void quantize_queries(const float* q, int head_size, int rows, const DotQueries& to) noexcept {
  for (int i = 0; i < rows * head_size / 32; i++) {
    int32_t sum;
    to.scales[i] = pack_row(q + 32 * i, 32, 128, to.units_4 + 64 * i, &sum);
    to.zeros_4[i] = code_zero(DType::q4_0) * sum;
    to.scales[i] = pack_row(q + 32 * i, 32, 1, to.units_8 + 64 * i, &sum);
    to.zeros_8[i] = kZero8 * sum;
  }
}

void key_dots(const Slice& slice, int head_size, const float* q, const DotQueries& numbers, int rows,
              float* s) noexcept {
  alignas(64) uint8_t units[kDotRows * 2 * kMaxHeadSize];
  alignas(64) float apart[kDotRows * kPageRows];
  float scales[kDotRows], starts[kDotRows];
  const Piece& piece = slice.piece;
  const int groups = head_size / 32;
  for (int r = 0; r < rows; r += kDotRows, s += kDotRows * kScoreRow) {
    const int some = rows - r < kDotRows ? rows - r : kDotRows;
    const bool wide = piece.type == DType::q8_0;
    Keys k{piece.page,
           slice.ahead,
           head_size,
           (wide ? numbers.units_8 : numbers.units_4) + 2 * r * head_size,
           numbers.scales + r * groups,
           (wide ? numbers.zeros_8 : numbers.zeros_4) + r * groups,
           starts};
    if (is_kivi(piece.type)) {
      scale_kivi(piece, q + r * head_size, head_size, some, units, scales, starts);
      k.x = units;
      k.scales = scales;
    }
    fetch_tables(slice.ahead, piece.type, head_size);
    float* y = piece.first == 0 ? s : apart;
    const size_t ld = piece.first == 0 ? kScoreRow : kPageRows;
    switch (piece.type) {
      case DType::q8_0: row_dots<DType::q8_0>(k, some, y, ld); break;
      case DType::kivi4: row_dots<DType::kivi4>(k, some, y, ld); break;
      case DType::kivi2: row_dots<DType::kivi2>(k, some, y, ld); break;
      default: row_dots<DType::q4_0>(k, some, y, ld); break;
    }
    for (int i = 0; piece.first > 0 && i < some; i++) {
      __builtin_memcpy(s + static_cast<size_t>(i) * kScoreRow, apart + kPageRows * i + piece.first,
                       4 * static_cast<size_t>(piece.count));
    }
  }
}

}  // namespace tokensieve::kernels::TS_ISA
