// Quantized weights times int8 activations. Of every block of 32 columns (q6_k: of every half) the dot of codes and
// activations is an exact integer, with the code of zero taken off by the sum of the activations; then
//   sum = fma(float(dot), weight scale * activation scale, sum)
//   sum = fma(minimum, activation scale * float(sum of activations), sum)     where the type has minima
// in ascending order of the block. Both paths and all instruction sets do exactly this: results are equal bit for bit.
#include "kernels/cpu/functions.h"
#include "kernels/cpu/tiles.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

constexpr int kSliceBlocks = 16;

// A slice of a panel with one code a byte and its scales in f32.
template <int bits, int zero, bool min, bool halves>
struct Unpacked : Codes8 {
  static constexpr int kBits = bits;
  static constexpr bool kUnpacked = true;
  static constexpr int kGroup = 1, kHead = 0, kBlock = 576 + (halves ? 64 : 0) + (min ? 64 : 0), kZero = zero;
  static constexpr bool kMin = min, kHalves = halves;
  static TS_INLINE F scale(const uint8_t*, const uint8_t* block, int half) {
    return load(reinterpret_cast<const float*>(block + 512 + 64 * half));
  }
  static TS_INLINE F minimum(const uint8_t*, const uint8_t* block) {
    return load(reinterpret_cast<const float*>(block + kBlock - 64));
  }
};

template <class W, int g>
TS_INLINE void unpack_codes(const uint8_t* from, uint8_t* to) {
  if constexpr (g < 8) {
    store_b(to + 64 * g, W::template code<g>(from));
    unpack_codes<W, g + 1>(from, to);
  }
}

// activation scale * float(sum of activations) of `count` blocks, which minima are multiplied with
TS_INLINE void scale_block_sums(const float* scale, const int16_t* sum, int count, float* out) {
  int b = 0;
  for (; b + 16 <= count; b += 16) store(out + b, mul(load(scale + b), to_f32(pair_sums(sum + 2 * b))));
  for (; b < count; b++) out[b] = scale[b] * static_cast<float>(sum[2 * b] + sum[2 * b + 1]);
}

template <bool kept>
struct ScaledSums {
  const float* scale_sums(const Prepared&, int, int, int, int) { return nullptr; }
};
template <>
struct ScaledSums<true> {
  alignas(64) float sums[kChunk][kSliceBlocks];
  const float* scale_sums(const Prepared& x, int token, int tokens, int k, int depth) {
    const size_t blocks = static_cast<size_t>(x.cols) / 32;
    for (int t = 0; t < tokens; t++) {
      const size_t at = blocks * static_cast<size_t>(token + t) + static_cast<size_t>(k) / 32;
      scale_block_sums(x.scale + at, x.sum + 2 * at, depth / 32, sums[t]);
    }
    return sums[0];
  }
};

template <class W>
struct UnpackedSlice : ScaledSums<W::kMin> {
  using Form = Unpacked<W::kBits, W::kZero, W::kMin, W::kHalves>;
  alignas(64) uint8_t blocks[2][kSliceBlocks * Form::kBlock];
  const uint8_t* panels[2] = {blocks[0], blocks[1]};

  const uint8_t* const* unpack(const uint8_t* const* packed, int k, int depth) {
    for (int p = 0; p < 2; p++) {
      for (int b = 0; b < depth / 32; b++) unpack_block(packed[p], k / 32 + b, blocks[p] + b * Form::kBlock);
    }
    return panels;
  }
  static TS_INLINE void unpack_block(const uint8_t* panel, int b, uint8_t* to) {
    const uint8_t* head = head_of<W>(panel, b);
    const uint8_t* block = block_of<W>(panel, b);
    unpack_codes<W, 0>(block, to);
    float* scales = reinterpret_cast<float*>(to + 512);
    store(scales, W::scale(head, block, 0));
    if constexpr (W::kHalves) store(scales + 16, W::scale(head, block, 1));
    if constexpr (W::kMin) store(scales + 16, W::minimum(head, block));
  }
};

template <class W>
struct Choice {
  using Sliced = typename UnpackedSlice<W>::Form;
  using Scratch = UnpackedSlice<W>;
};
template <>
struct Choice<Q8_0> {
  using Sliced = Q8_0;
  using Scratch = SameSlice;
};

// The activations of a tile at one block: rows `row` apart, blocks `blocks` apart.
struct Activations {
  const int8_t* q;
  const float* scale;
  const int16_t* sum;
  size_t row, blocks;
};

// s[t][p] += groups [g, end) of the blocks of P panels times those of T tokens
template <class L, int g, int end, int P, int T>
TS_INLINE void dot_run(const uint8_t* const* block, const Activations& a, typename Dots<L::kBits>::S (&s)[T][P]) {
  if constexpr (g < end) {
    B w[P];
    TS_UNROLL for (int p = 0; p < P; p++) w[p] = L::template code<g>(block[p]);
    TS_UNROLL for (int t = 0; t < T; t++) {
      const X x = broadcast4(a.q + a.row * static_cast<size_t>(t) + 4 * g);
      TS_UNROLL for (int p = 0; p < P; p++) s[t][p] = Dots<L::kBits>::add(s[t][p], w[p], x);
    }
    dot_run<L, g + 1, end, P, T>(block, a, s);
  }
}

// acc[t][p] += the same, in runs as long as the machine's partial sums allow
template <class L, int g, int end, int P, int T>
TS_INLINE void dot_groups(const uint8_t* const* block, const Activations& a, I (&acc)[T][P]) {
  if constexpr (g < end) {
    using D = Dots<L::kBits>;
    constexpr int next = g + D::kRun < end ? g + D::kRun : end;
    typename D::S s[T][P];
    TS_UNROLL for (int t = 0; t < T; t++) { TS_UNROLL for (int p = 0; p < P; p++) s[t][p] = D::begin(acc[t][p]); }
    dot_run<L, g, next, P, T>(block, a, s);
    TS_UNROLL for (int t = 0; t < T; t++) {
      TS_UNROLL for (int p = 0; p < P; p++) acc[t][p] = D::end(acc[t][p], s[t][p]);
    }
    dot_groups<L, next, end, P, T>(block, a, acc);
  }
}

// Groups [begin, end) share a scale: the whole block, or half `half` of it.
template <class L, int begin, int end, int half, int P, int T>
TS_INLINE void add_scaled(const uint8_t* const* head, const uint8_t* const* block, const Activations& a, F (&f)[T][P]) {
  I acc[T][P];
  TS_UNROLL for (int t = 0; t < T; t++) {
    const int16_t* sum = a.sum + 2 * a.blocks * static_cast<size_t>(t);
    I start = zeroi();
    if constexpr (L::kZero != 0) start = half_sums(sum, begin < 4 ? -L::kZero : 0, end > 4 ? -L::kZero : 0);
    TS_UNROLL for (int p = 0; p < P; p++) acc[t][p] = start;
  }
  dot_groups<L, begin, end, P, T>(block, a, acc);
  F scale[P];
  TS_UNROLL for (int p = 0; p < P; p++) scale[p] = L::scale(head[p], block[p], half);
  TS_UNROLL for (int t = 0; t < T; t++) {
    const F s = set1(a.scale[a.blocks * static_cast<size_t>(t)]);
    TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = fma(to_f32(acc[t][p]), mul(scale[p], s), f[t][p]);
  }
}

// scaled: of these tokens at this block, kSliceBlocks apart, or null
template <class L, int P, int T>
TS_INLINE void add_minima(const uint8_t* const* head, const uint8_t* const* block, const Activations& a,
                          const float* scaled, F (&f)[T][P]) {
  F min[P];
  TS_UNROLL for (int p = 0; p < P; p++) min[p] = L::minimum(head[p], block[p]);
  TS_UNROLL for (int t = 0; t < T; t++) {
    const size_t at = a.blocks * static_cast<size_t>(t);
    const F s =
        L::kUnpacked ? set1(scaled[kSliceBlocks * t]) : mul(set1(a.scale[at]), to_f32(half_sums(a.sum + 2 * at, 1, 1)));
    TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = fma(min[p], s, f[t][p]);
  }
}

template <class L, int P, int T>
TS_INLINE void int8_tile(const Span& span, int token, float* sums) {
  const Prepared& x = *span.x;
  const size_t cols = static_cast<size_t>(x.cols), blocks = cols / 32;
  const size_t row = static_cast<size_t>(token), b0 = static_cast<size_t>(span.k) / 32;
  Activations a{x.q + cols * row + 32 * b0, x.scale + blocks * row + b0, x.sum + 2 * (blocks * row + b0), cols, blocks};
  const float* scaled = nullptr;
  if constexpr (L::kMin && L::kUnpacked) scaled = span.scaled + kSliceBlocks * (token - span.chunk);
  F f[T][P];
  TS_UNROLL for (int t = 0; t < T; t++) {
    TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = span.first ? zero() : load(sums + kStride * t + 16 * p);
  }
  for (int b = span.from / 32, end = b + span.depth / 32; b < end; b++, a.q += 32, a.scale++, a.sum += 2) {
    const uint8_t *head[P], *block[P];
    TS_UNROLL for (int p = 0; p < P; p++) {
      head[p] = head_of<L>(span.panels[p], b);
      block[p] = block_of<L>(span.panels[p], b);
    }
    if constexpr (L::kHalves) {
      add_scaled<L, 0, 4, 0, P, T>(head, block, a, f);
      add_scaled<L, 4, 8, 1, P, T>(head, block, a, f);
    } else {
      add_scaled<L, 0, 8, 0, P, T>(head, block, a, f);
    }
    if constexpr (L::kMin) add_minima<L, P, T>(head, block, a, L::kUnpacked ? scaled + b : nullptr, f);
  }
  TS_UNROLL for (int t = 0; t < T; t++) {
    TS_UNROLL for (int p = 0; p < P; p++) store(sums + kStride * t + 16 * p, f[t][p]);
  }
}

// Accumulators fill the registers: 12 of 32 zmm (with as many f32 sums), 8 of 16 ymm, 16 of 32 q (halves of 16 bits
// without the dot instruction: two tokens).
template <class W>
struct Int8 {
#if defined(TS_ISA_AVX512)
  static constexpr int kPanels = 2, kTokens = 6;
#elif defined(TS_ISA_NEON) && !defined(TS_ISA_DOTPROD)
  static constexpr int kPanels = 1, kTokens = 2;
#else
  static constexpr int kPanels = 1, kTokens = 4;
#endif
  static constexpr int kFew = 4, kSlice = 32 * kSliceBlocks;
  using Packed = W;
  using Sliced = typename Choice<W>::Sliced;
  using Scratch = typename Choice<W>::Scratch;
  template <class L, int P, int T>
  static void tile(const Span& span, int token, float* sums) {
    int8_tile<L, P, T>(span, token, sums);
  }
};

}  // namespace

Kind activation_kind(DType type) noexcept {
  if (type == DType::bf16) return kPairs ? Kind::bf16 : Kind::f32;
  return type == DType::f32 || type == DType::f16 ? Kind::f32 : Kind::int8;
}

void matmul(const PackedMatrix& w, const Prepared& x, const float* bias, bool accumulate, float* out, size_t ldo,
            Team& team) noexcept {
  const Call call{&w, &x, bias, accumulate, out, ldo};
  switch (w.type) {
    case DType::q8_0: return multiply<Int8<Q8_0>>(call, team);
    case DType::q4_0: return multiply<Int8<Q4_0>>(call, team);
    case DType::q4_1: return multiply<Int8<Q4_1>>(call, team);
    case DType::q5_0: return multiply<Int8<Q5_0>>(call, team);
    case DType::q5_1: return multiply<Int8<Q5_1>>(call, team);
    case DType::q4_k: return multiply<Int8<Q4_K>>(call, team);
    case DType::q5_k: return multiply<Int8<Q5_K>>(call, team);
    case DType::q6_k: return multiply<Int8<Q6_K>>(call, team);
    default: return matmul_float(call, team);
  }
}

}  // namespace tokensieve::kernels::TS_ISA
