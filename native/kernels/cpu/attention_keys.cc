// Scores of a page of keys: 16 keys are the lanes of a register, channels are walked, up to 4 query rows share each
// load.
//
// Scales stay out of the inner loop: q8_0 and q4_0 scale the sum over 32 channels, kivi scales the query's channels
// once a page and its minima are one number a query row.
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/page_layout.h"
#include "kernels/cpu/simd_codes.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

#if defined(TS_ISA_AVX512)
constexpr int kBlocks = 2;
#else
constexpr int kBlocks = 1;  // the registers hold 4 rows of one block
#endif

struct Keys {
  const uint8_t* page;
  const uint8_t* next;
  int d, block;      // head_size; the first of the blocks
  const float* q;    // [R][d], for kivi times the scales
  const float* start;  // kivi: [R], the part of the minima
};

template <DType type>
TS_INLINE F load_key(const uint8_t* codes) {
  if constexpr (type == DType::f32) return load(reinterpret_cast<const float*>(codes));
  if constexpr (type == DType::f16) return load_f16(codes);
  if constexpr (type == DType::bf16) return load_bf16(codes);
  return load_i8(codes);
}

template <int R, int B>
TS_INLINE void add_key(const float* q, int d, const F* key, F (*acc)[B]) {
  TS_UNROLL for (int r = 0; r < R; r++) {
    const F x = set1(q[r * d]);
    TS_UNROLL for (int b = 0; b < B; b++) acc[r][b] = fma(x, key[b], acc[r][b]);
  }
}

// Channels [c, end) of f32, f16, bf16 or q8_0 codes.
template <DType type, int R, int B>
TS_INLINE void add_channels(const Keys& k, int c, int end, F (*acc)[B]) {
  constexpr size_t unit = static_cast<size_t>(16 * code_bits(type) / 8);
  const size_t bytes = key_block_bytes(type, k.d), start = bytes * static_cast<size_t>(k.block);
  const uint8_t* codes = k.page + start + unit * static_cast<size_t>(c);
  const uint8_t* next = k.next + start + unit * B * static_cast<size_t>(c);
  for (; c < end; c++, codes += unit, next += unit * B) {
    __builtin_prefetch(next);
    F key[B];
    TS_UNROLL for (int b = 0; b < B; b++) key[b] = load_key<type>(codes + static_cast<size_t>(b) * bytes);
    add_key<R, B>(k.q + c, k.d, key, acc);
  }
}

// 32 channels of q4_0 from group g on.
template <int R, int B>
TS_INLINE void add_nibbles(const Keys& k, int g, F (*acc)[B]) {
  const size_t bytes = key_block_bytes(DType::q4_0, k.d), start = bytes * static_cast<size_t>(k.block);
  const uint8_t* codes = k.page + start + 256 * g;
  const uint8_t* next = k.next + start + 256 * B * g;
  for (int i = 0; i < 16; i++, codes += 16, next += 16 * B) {
    __builtin_prefetch(next);
    F low[B], high[B];
    TS_UNROLL for (int b = 0; b < B; b++) {
      const I pair = widen(codes + static_cast<size_t>(b) * bytes);
      low[b] = field<4, 8>(pair, 0);
      high[b] = field<4, 8>(pair, 4);
    }
    add_key<R, B>(k.q + 32 * g + i, k.d, low, acc);
    add_key<R, B>(k.q + 32 * g + 16 + i, k.d, high, acc);
  }
}

template <DType type, int R, int B>
TS_INLINE void add_kivi(const Keys& k, F (*acc)[B]) {
  for (int c = 0; c < k.d; c += 2) {
    const uint8_t* codes = k.page + (type == DType::kivi4 ? 16 * c : 8 * c);
    __builtin_prefetch(codes + (k.next - k.page));
    F even[B], odd[B];
    const I x = widen(codes), y = type == DType::kivi4 ? widen(codes + 16) : x;
    TS_UNROLL for (int b = 0; b < B; b++) {
      const int block = B == 2 ? b : k.block;
      even[b] = type == DType::kivi4 ? field<4, 0>(x, 4 * block) : field<2, 0>(x, 2 * block);
      odd[b] = type == DType::kivi4 ? field<4, 0>(y, 4 * block) : field<2, 0>(y, 2 * block + 4);
    }
    add_key<R, B>(k.q + c, k.d, even, acc);
    add_key<R, B>(k.q + c + 1, k.d, odd, acc);
  }
}

template <DType type, int R, int B>
TS_INLINE void add_groups(const Keys& k, F (*acc)[B]) {
  const uint16_t* scales = page_scales(k.page, type, k.d) + k.block * (k.d / 2);
  for (int g = 0; g < k.d / 32; g++) {
    F part[R][B];
    TS_UNROLL for (int r = 0; r < R; r++) { TS_UNROLL for (int b = 0; b < B; b++) part[r][b] = zero(); }
    if constexpr (type == DType::q8_0) {
      add_channels<type, R, B>(k, 32 * g, 32 * g + 32, part);
    } else {
      add_nibbles<R, B>(k, g, part);
    }
    TS_UNROLL for (int b = 0; b < B; b++) {
      const F scale = load_f16(scales + b * (k.d / 2) + 16 * g);
      TS_UNROLL for (int r = 0; r < R; r++) acc[r][b] = fma(part[r][b], scale, acc[r][b]);
    }
  }
}

template <DType type, int R, int B>
void block_scores(const Keys& k, float* s, size_t lds) {
  F acc[R][B];
  TS_UNROLL for (int r = 0; r < R; r++) {
    TS_UNROLL for (int b = 0; b < B; b++) acc[r][b] = is_kivi(type) ? set1(k.start[r]) : zero();
  }
  if constexpr (is_plain(type)) {
    add_channels<type, R, B>(k, 0, k.d, acc);
  } else if constexpr (is_kivi(type)) {
    add_kivi<type, R, B>(k, acc);
  } else {
    add_groups<type, R, B>(k, acc);
  }
  TS_UNROLL for (int r = 0; r < R; r++) {
    TS_UNROLL for (int b = 0; b < B; b++) store(s + static_cast<size_t>(r) * lds + 16 * b, acc[r][b]);
  }
}

template <DType type, int R>
void page_scores(Keys k, int first, int count, float* s) {
  const int last = (first + count - 1) / 16;
  int lead = first % 16;
  for (k.block = first / 16; k.block <= last; k.block += kBlocks) {
    const bool both = kBlocks == 2 && k.block < last;
    float apart[R][32];  // where the first lanes are not asked for
    float* y = lead ? apart[0] : s;
    const size_t ld = lead ? 32 : kScoreRow;
    if (both) {
      block_scores<type, R, kBlocks>(k, y, ld);
    } else {
      block_scores<type, R, 1>(k, y, ld);
    }
    const int lanes = (both ? 32 : 16) - lead;
    for (int r = 0; lead && r < R; r++) {
      __builtin_memcpy(s + kScoreRow * static_cast<size_t>(r), apart[r] + lead, 4 * static_cast<size_t>(lanes));
    }
    s += lanes;
    lead = 0;
  }
}

template <DType type>
TS_INLINE void row_scores(const Keys& k, int first, int count, int rows, float* s) {
  if (rows == 1) return page_scores<type, 1>(k, first, count, s);
  if (rows == 2) return page_scores<type, 2>(k, first, count, s);
  if (rows == 3) return page_scores<type, 3>(k, first, count, s);
  page_scores<type, 4>(k, first, count, s);
}

// scaled [rows][d] = q times the page's scales, start[r] = q[r] . minima.
void scale_kivi(const uint8_t* page, DType type, const float* q, int d, int rows, float* scaled, float* start) {
  const uint16_t* scales = page_scales(page, type, d);
  for (int r = 0; r < rows; r++, q += d, scaled += d) {
    F sum = zero();
    for (int c = 0; c < d; c += 16) {
      const F x = load(q + c);
      store(scaled + c, mul(x, load_f16(scales + c)));
      sum = fma(x, load_f16(scales + d + c), sum);
    }
    start[r] = reduce_add(sum);
  }
}

}  // namespace

void key_scores(const Piece& piece, int head_size, const uint8_t* next, const float* q, int rows, float* s) noexcept {
  alignas(64) float scaled[4 * kMaxHeadSize], start[4];
  Keys k{piece.page, next, head_size, 0, q, start};
  for (; rows > 0; rows -= 4, q += 4 * head_size, s += 4 * kScoreRow) {
    const int some = rows < 4 ? rows : 4;
    k.q = q;
    if (is_kivi(piece.type)) {
      scale_kivi(piece.page, piece.type, q, head_size, some, scaled, start);
      k.q = scaled;
    }
    switch (piece.type) {
      case DType::f32: row_scores<DType::f32>(k, piece.first, piece.count, some, s); break;
      case DType::f16: row_scores<DType::f16>(k, piece.first, piece.count, some, s); break;
      case DType::bf16: row_scores<DType::bf16>(k, piece.first, piece.count, some, s); break;
      case DType::q8_0: row_scores<DType::q8_0>(k, piece.first, piece.count, some, s); break;
      case DType::kivi4: row_scores<DType::kivi4>(k, piece.first, piece.count, some, s); break;
      case DType::kivi2: row_scores<DType::kivi2>(k, piece.first, piece.count, some, s); break;
      default: row_scores<DType::q4_0>(k, piece.first, piece.count, some, s); break;
    }
  }
}

}  // namespace tokensieve::kernels::TS_ISA
