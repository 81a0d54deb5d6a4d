// A tile of quantized weights times int8 activations: the arithmetic that matmul.cc describes.
#pragma once

#include "kernels/cpu/tiles.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

// What is kept of a block's activations (matmul.cc): what minima are multiplied with, else starts of sums.
template <bool min>
struct Number {
  using Type = int32_t;
};
template <>
struct Number<true> {
  using Type = float;
};

// The activations of a tile at one block: rows `row` apart, blocks `blocks` apart, what is kept of them `kept_row` apart.
template <class L>
struct Activations {
  const int8_t* q;
  const float* scale;
  const typename Number<L::kMin>::Type* kept;
  size_t row, blocks, kept_row;

  TS_INLINE X group(int t, int g) const { return broadcast4(q + row * static_cast<size_t>(t) + 4 * g); }
  TS_INLINE F scale_of(int t) const { return set1(scale[blocks * static_cast<size_t>(t)]); }
  TS_INLINE auto kept_of(int t, int half) const {
    return kept[kept_row * static_cast<size_t>(t) + static_cast<size_t>(half)];
  }
  TS_INLINE void next() { q += 32, scale++, kept += L::kHalves ? 2 : 1; }
};

// s[t][p] += groups [g, end) of the blocks of P panels times those of T tokens
template <class L, int g, int end, int P, int T>
TS_INLINE void dot_run(const uint8_t* const* block, const Activations<L>& a, typename Dots<L::kBits>::S (&s)[T][P]) {
  if constexpr (g < end) {
    B w[P];
    TS_UNROLL for (int p = 0; p < P; p++) w[p] = L::template code<g>(block[p]);
    TS_UNROLL for (int t = 0; t < T; t++) {
      const X x = a.group(t, g);
      TS_UNROLL for (int p = 0; p < P; p++) s[t][p] = Dots<L::kBits>::add(s[t][p], w[p], x);
    }
    dot_run<L, g + 1, end, P, T>(block, a, s);
  }
}

// acc[t][p] += the same, in runs as long as the machine's partial sums allow
template <class L, int g, int end, int P, int T>
TS_INLINE void dot_groups(const uint8_t* const* block, const Activations<L>& a, I (&acc)[T][P]) {
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

// The dots of groups [begin, end), which are all of a block or half `half` of it.
template <class L, int begin, int end, int half, int P, int T>
TS_INLINE void dots(const uint8_t* const* block, const Activations<L>& a, I (&acc)[T][P]) {
  TS_UNROLL for (int t = 0; t < T; t++) {
    I start = zeroi();
    if constexpr (L::kZero != 0) start = set1i(a.kept_of(t, half));
    TS_UNROLL for (int p = 0; p < P; p++) acc[t][p] = start;
  }
  dot_groups<L, begin, end, P, T>(block, a, acc);
}

template <class L, int P, int T>
TS_INLINE void add_block(const uint8_t* const* head, const uint8_t* const* block, const Activations<L>& a,
                         F (&f)[T][P]) {
  I acc[T][P];
  F scale[P];
  dots<L, 0, 8, 0, P, T>(block, a, acc);
  TS_UNROLL for (int p = 0; p < P; p++) scale[p] = L::scale(head[p], block[p], 0);
  TS_UNROLL for (int t = 0; t < T; t++) {
    const F s = a.scale_of(t);
    TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = fma(to_f32(acc[t][p]), mul(scale[p], s), f[t][p]);
  }
  if constexpr (L::kMin) {
    TS_UNROLL for (int p = 0; p < P; p++) scale[p] = L::minimum(head[p], block[p]);
    TS_UNROLL for (int t = 0; t < T; t++) {
      const F s = set1(a.kept_of(t, 0));
      TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = fma(scale[p], s, f[t][p]);
    }
  }
}

template <class L, int P, int T>
TS_INLINE void add_halves(const uint8_t* const* head, const uint8_t* const* block, const Activations<L>& a,
                          F (&f)[T][P]) {
  I acc[T][P];
  F both[T][P];
  dots<L, 0, 4, 0, P, T>(block, a, acc);
  TS_UNROLL for (int p = 0; p < P; p++) {
    const F scale = L::scale(head[p], block[p], 0);
    TS_UNROLL for (int t = 0; t < T; t++) both[t][p] = mul(to_f32(acc[t][p]), scale);
  }
  dots<L, 4, 8, 1, P, T>(block, a, acc);
  TS_UNROLL for (int p = 0; p < P; p++) {
    const F scale = L::scale(head[p], block[p], 1);
    TS_UNROLL for (int t = 0; t < T; t++) both[t][p] = fma(to_f32(acc[t][p]), scale, both[t][p]);
  }
  TS_UNROLL for (int t = 0; t < T; t++) {
    const F s = a.scale_of(t);
    TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = fma(both[t][p], s, f[t][p]);
  }
}

// Blocks of fewer bytes are called for ahead. Of wider ones more lines are under way than such calls can wait for: they
// are left to the machine's own foresight.
constexpr int kNarrow = 500;

// Those that a tile begins with.
template <class L>
TS_INLINE Activations<L> activations_of(const Span& span, int token) {
  const Prepared& x = *span.call->x;
  const size_t cols = static_cast<size_t>(x.cols), blocks = cols / 32;
  const size_t row = static_cast<size_t>(token), b0 = static_cast<size_t>(span.k) / 32;
  Activations<L> a{x.q + cols * row + 32 * b0, x.scale + blocks * row + b0, nullptr, cols, blocks, span.kept_row};
  if (span.kept) {
    a.kept = static_cast<const typename Number<L::kMin>::Type*>(span.kept);
    a.kept += span.kept_row * static_cast<size_t>(token - span.chunk);
  }
  return a;
}

template <class L, int P, int T, int ahead>
TS_INLINE void int8_tile(const Span& span, int token, float* sums) {
  Activations<L> a = activations_of<L>(span, token);
  F f[T][P];
  TS_UNROLL for (int t = 0; t < T; t++) {
    TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = span.first() ? zero() : load(sums + kStride * t + 16 * p);
  }
  for (int b = span.from / 32, end = b + span.depth / 32; b < end; b++, a.next()) {
    const uint8_t *head[P], *block[P];
    TS_UNROLL for (int p = 0; p < P; p++) {
      head[p] = head_of<L>(span.panels[p], b);
      block[p] = block_of<L>(span.panels[p], b);
      if constexpr (ahead != 0 && L::kBlock < kNarrow) span.call_for<L::kBlock>(p, block[p] + ahead);
    }
    if constexpr (L::kHalves) {
      add_halves<L, P, T>(head, block, a, f);
    } else {
      add_block<L, P, T>(head, block, a, f);
    }
  }
  TS_UNROLL for (int t = 0; t < T; t++) {
    TS_UNROLL for (int p = 0; p < P; p++) store(sums + kStride * t + 16 * p, f[t][p]);
  }
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
