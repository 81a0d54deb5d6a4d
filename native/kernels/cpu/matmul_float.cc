// f32, f16 and bf16 weights: sum = fma(w[k], x[k], sum) in ascending order of k; bf16 with a bf16 dot: pairs of columns
// by vdpbf16ps, both sides bf16, denormals as zero.
#include "kernels/cpu/tiles.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

struct F32 {
  static constexpr int kBytes = 64;  // 16 rows of one column
  static TS_INLINE F weights(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
};
struct F16 {
  static constexpr int kBytes = 32;
  static TS_INLINE F weights(const uint8_t* p) { return load_f16(p); }
};
#if !defined(TS_ISA_BF16)
struct BF16 {
  static constexpr int kBytes = 32;
  static TS_INLINE F weights(const uint8_t* p) { return load_bf16(p); }
};
#endif

template <int P, int T>
TS_INLINE void load_sums(const Span& span, const float* sums, F (&f)[T][P]) {
  TS_UNROLL for (int t = 0; t < T; t++) {
    TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = span.first() ? zero() : load(sums + kStride * t + 16 * p);
  }
}
template <int P, int T>
TS_INLINE void store_sums(float* sums, const F (&f)[T][P]) {
  TS_UNROLL for (int t = 0; t < T; t++) {
    TS_UNROLL for (int p = 0; p < P; p++) store(sums + kStride * t + 16 * p, f[t][p]);
  }
}

// Accumulators: 24 of 32 zmm, 12 of 16 ymm, 24 of 32 q.
struct Floating {
#if defined(TS_ISA_AVX512)
  static constexpr int kWide = 2, kTile = 12;
#else
  static constexpr int kWide = 1, kTile = 6;
#endif
  static constexpr int kStep = 2;
  using Few = Way<1, 4, 0, 4, 1 << 30>;
  using Several = Way<kWide, kTile, 4, 16, 1 << 30>;
  using Many = Way<kWide, kTile, 16, 192, 256>;
  using Unsliced = SameSlice;
  using Scratch = SameSlice;
  template <class W>
  using Keep = KeepNothing;
};

template <class W>
struct FusedMultiplyAdd : Floating {
  using Packed = W;
  using Sliced = W;
  template <class L, int P, int T, int>
  static TS_INLINE void tile(const Span& span, int token, float* sums) {
    const float* x = span.call->x->f32 + span.call->x->ld * static_cast<size_t>(token) + span.k;
    const size_t ld = span.call->x->ld, at = static_cast<size_t>(span.from) * L::kBytes;
    F f[T][P];
    load_sums<P, T>(span, sums, f);
    for (int k = 0; k < span.depth; k++) {
      F w[P];
      TS_UNROLL for (int p = 0; p < P; p++) w[p] = L::weights(span.panels[p] + at + static_cast<size_t>(k) * L::kBytes);
      TS_UNROLL for (int t = 0; t < T; t++) {
        const F y = set1(x[ld * static_cast<size_t>(t) + static_cast<size_t>(k)]);
        TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = fma(w[p], y, f[t][p]);
      }
    }
    store_sums<P, T>(sums, f);
  }
};

#if defined(TS_ISA_BF16)
struct BrainPairs {};

struct BrainDot : Floating {
  using Packed = BrainPairs;
  using Sliced = BrainPairs;
  template <class L, int P, int T, int>
  static TS_INLINE void tile(const Span& span, int token, float* sums) {
    const size_t ld = static_cast<size_t>(span.call->x->cols + 1) / 2 * 2, at = static_cast<size_t>(span.from) * 32;
    const uint16_t* x = span.call->x->bf16 + ld * static_cast<size_t>(token) + span.k;
    F f[T][P];
    load_sums<P, T>(span, sums, f);
    for (int k = 0; k < span.depth; k += 2) {
      H w[P];
      TS_UNROLL for (int p = 0; p < P; p++) w[p] = load_h(span.panels[p] + at + static_cast<size_t>(k) * 32);
      TS_UNROLL for (int t = 0; t < T; t++) {
        const H y = broadcast_h(x + ld * static_cast<size_t>(t) + static_cast<size_t>(k));
        TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = dot_bf16(f[t][p], w[p], y);
      }
    }
    store_sums<P, T>(sums, f);
  }
};
#endif

}  // namespace

void matmul_float(const Call& call, Team& team) noexcept {
  if (call.w->type == DType::f32) return multiply<FusedMultiplyAdd<F32>>(call, team);
  if (call.w->type == DType::f16) return multiply<FusedMultiplyAdd<F16>>(call, team);
#if defined(TS_ISA_BF16)
  multiply<BrainDot>(call, team);
#else
  multiply<FusedMultiplyAdd<BF16>>(call, team);
#endif
}

}  // namespace tokensieve::kernels::TS_ISA
