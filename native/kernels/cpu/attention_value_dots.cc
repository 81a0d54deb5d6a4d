// Weighted sums over pages of quantized values: exact sums of codes times weights in integers of 15 bits. Channels are
// the lanes, 4 rows are taken at a time, up to kDotRows query rows share each load.
//
// A weight is a probability times the row's scale, for each group of 32 channels; its integers share a scale over a run
// of pages, in practice over a split, so that sums become floats once. The part of kivi's minima is one number a query
// row and group.
#include "kernels/cpu/attention_dots.h"
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/page_layout.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

constexpr int kRunPages = 9;  // a split, where its first page begins before it
constexpr int kRunRows = kRunPages * kPageRows;

// Of some query rows and one group of channels.
struct Weights {
  alignas(64) float w[kDotRows][kRunRows];
  alignas(64) uint8_t units[kDotRows][2 * kRunRows];
  float scales[kDotRows], shifts[kDotRows];
  int32_t sums[kDotRows];
};

struct Run {
  const Slice* slices;  // of one type
  int count, d;
  const float* p;  // [R][kScoreRow]
  float* out;  // [R][d]
};

// A page that is not read whole: weights of rows outside of the piece, whatever their scales hold, are 0.
void weigh_part(const Slice& slice, const float* p, const uint16_t* scales, const uint16_t* minima, float* w,
                float* shifts) {
  const Piece& piece = slice.piece;
  for (int j = 0; j < kPageRows; j++) w[j] = shifts[j] = 0;
  for (int j = piece.first; j < piece.first + piece.count; j++) {
    const float x = p[slice.column + j - piece.first];
    w[j] = x * f16_at(scales + j);
    if (minima) shifts[j] = x * f16_at(minima + j);
  }
}

template <DType type, int R>
TS_INLINE void weigh_page(const Run& run, int g, int index, Weights* to, F* top, F* shift) {
  const Slice& slice = run.slices[index];
  const uint16_t* scales = page_scales(slice.piece.page, type, run.d) + kPageRows * g;
  const uint16_t* minima = is_kivi(type) ? scales + run.d : nullptr;
  const bool whole = slice.piece.count == kPageRows;
  if (g == 0) fetch_tables(slice.ahead, type, run.d);
  const F low = load_f16(scales), high = load_f16(scales + 16);
  TS_UNROLL for (int r = 0; r < R; r++) {
    const float* p = run.p + static_cast<size_t>(r) * kScoreRow;
    float* w = to->w[r] + kPageRows * index;
    if (whole) {
      const F a = load(p + slice.column), b = load(p + slice.column + 16);
      store(w, mul(a, low));
      store(w + 16, mul(b, high));
      if (is_kivi(type)) shift[r] = fma(b, load_f16(minima + 16), fma(a, load_f16(minima), shift[r]));
    } else {
      alignas(64) float shifts[kPageRows];
      weigh_part(slice, p, scales, minima, w, shifts);
      if (is_kivi(type)) shift[r] = add(load(shifts + 16), add(load(shifts), shift[r]));
    }
    top[r] = max(top[r], max(abs(load(w)), abs(load(w + 16))));
  }
}

template <DType type, int R>
void weigh(const Run& run, int g, Weights* to) {
  F top[R], shift[R];
  TS_UNROLL for (int r = 0; r < R; r++) top[r] = shift[r] = zero();
  for (int k = 0; k < run.count; k++) weigh_page<type, R>(run, g, k, to, top, shift);
  for (int r = 0; r < R; r++) {
    float inverse;
    to->scales[r] = number_scale(reduce_max(top[r]), &inverse);
    to->shifts[r] = is_kivi(type) ? reduce_add(shift[r]) : 0;
    I all = zeroi();
    for (int j = 0; j < kPageRows * run.count; j += kPageRows) {
      const float* w = to->w[r] + j;
      const I a = to_i32(mul(load(w), set1(inverse))), b = to_i32(mul(load(w + 16), set1(inverse)));
      all = addi(all, addi(a, b));
      pack(a, b, to->units[r] + 2 * j);
    }
    to->sums[r] = reduce_addi(all);
  }
}

// Registers [first, first + B) of the group's two.
template <DType type, int R, int first, int B>
TS_INLINE void add_group(const Run& run, int g, const Weights& weights) {
  constexpr int bits = code_bits(type), units = bits == 2 ? 2 : 1;  // units of 4 rows in a register of codes
  constexpr int left = zero_left<bits>(code_zero(type));
  constexpr size_t step = sizeof(weights.units[0]);
  Sum acc[B][R];
  TS_UNROLL for (int b = 0; b < B; b++) { TS_UNROLL for (int r = 0; r < R; r++) acc[b][r] = none(); }
  const uint8_t* x = weights.units[0];
  for (int k = 0; k < run.count; k++, x += 2 * kPageRows) {
    const size_t place = value_group_bytes(type) * static_cast<size_t>(g);
    const uint8_t* codes = run.slices[k].piece.page + place;
    const uint8_t* ahead = run.slices[k].ahead + place;
    TS_UNROLL for (int i = 0; i < 8 / units; i++) {
      constexpr int bytes = bits == 8 ? 128 : 64;
      __builtin_prefetch(ahead + bytes * i, 0, kNear);
      if constexpr (bits == 8) {
        __builtin_prefetch(ahead + bytes * i + 64, 0, kNear);
        TS_UNROLL for (int b = 0; b < B; b++) {
          add_dots<8, 2, R>(acc[b], load_codes(codes + bytes * i + 64 * (first + b)), x + unit_at(i), step);
        }
      } else {
        const Codes all = load_codes(codes + bytes * i);
        TS_UNROLL for (int u = 0; u < units; u++) {
          TS_UNROLL for (int b = 0; b < B; b++) {
            add_dots<bits, 2, R>(acc[b], field_of<bits>(all, 2 * u + first + b), x + unit_at(units * i + u), step);
          }
        }
      }
    }
  }
  TS_UNROLL for (int b = 0; b < B; b++) {
    TS_UNROLL for (int r = 0; r < R; r++) {
      float* y = run.out + r * run.d + 32 * g + 16 * (first + b);
      const F sum = to_f32(subi(total(acc[b][r]), set1i(left * weights.sums[r])));
      store(y, add(fma(sum, set1(weights.scales[r]), load(y)), set1(weights.shifts[r])));
    }
  }
}

template <DType type, int R>
void run_dots(const Run& run) {
  Weights weights;
  for (int g = 0; g < run.d / 32; g++) {
    weigh<type, R>(run, g, &weights);
    add_group<type, R, 0, kDotBlocks>(run, g, weights);
    if constexpr (kDotBlocks == 1) add_group<type, R, 1, 1>(run, g, weights);
  }
}

template <DType type>
void row_dots(const Run& run, int rows) {
  if (rows == 1) return run_dots<type, 1>(run);
  if (rows == 2) return run_dots<type, 2>(run);
  if constexpr (kDotRows == 4) {
    if (rows == 4) return run_dots<type, 4>(run);
  }
  run_dots<type, 3>(run);
}

}  // namespace

void value_dots(const Slice* slices, int count, int head_size, const float* p, int rows, float* o) noexcept {
  for (int first = 0; first < count;) {
    const DType type = slices[first].piece.type;
    Run run{slices + first, 1, head_size, p, o};
    while (run.count < kRunPages && first + run.count < count && run.slices[run.count].piece.type == type) run.count++;
    first += run.count;
    for (int left = rows; left > 0; left -= kDotRows, run.p += kDotRows * kScoreRow, run.out += kDotRows * head_size) {
      const int some = left < kDotRows ? left : kDotRows;
      switch (type) {
        case DType::q8_0: row_dots<DType::q8_0>(run, some); break;
        case DType::kivi4: row_dots<DType::kivi4>(run, some); break;
        case DType::kivi2: row_dots<DType::kivi2>(run, some); break;
        default: row_dots<DType::q4_0>(run, some); break;
      }
    }
  }
}

}  // namespace tokensieve::kernels::TS_ISA
