// Quantized weights times int8 activations. Of every block of 32 columns the dot of codes and activations is an exact
// integer, with the code of zero taken off by the sum of the activations; then
//   sum = fma(float(dot), weight scale * activation scale, sum)
//   sum = fma(minimum, activation scale * float(sum of activations), sum)     where the type has minima
// or, where a block has two halves (q6_k),
//   sum = fma(fma(float(dot 1), weight scale 1, float(dot 0) * weight scale 0), activation scale, sum)
// in ascending order of the block. All ways and all instruction sets do exactly this: results are equal bit for bit.
#include "kernels/cpu/functions.h"
#include "kernels/cpu/tile_int8.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

constexpr int kSliceBlocks = 16;  // of an unpacked slice

// A slice of a panel with one code a byte and its scales in f32.
template <int bits, int zero, bool min, bool halves>
struct Unpacked : Codes8 {
  static constexpr int kBits = bits;
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

template <class W>
struct UnpackedSlice {
  using Form = Unpacked<W::kBits, W::kZero, W::kMin, W::kHalves>;
  alignas(64) uint8_t blocks[2][kSliceBlocks * Form::kBlock];
  const uint8_t* panels[2] = {blocks[0], blocks[1]};

  const uint8_t* const* unpack(const Call&, const uint8_t* const* packed, int k, int depth) {
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

#if defined(TS_ISA_AVX512)
template <class L>
constexpr bool kUnpacks = L::kHalves;  // else in registers at every use, by ports that dots leave free
#else
template <class L>
constexpr bool kUnpacks = L::kBits != 8;
#endif

// The form that prefill reads.
template <class L, bool unpacked>
struct Choice {
  static constexpr int kSlice = 1024;
  using Form = L;
  using Scratch = SameSlice;
};
template <class L>
struct Choice<L, true> {
  static constexpr int kSlice = 32 * kSliceBlocks;
  using Form = typename UnpackedSlice<L>::Form;
  using Scratch = UnpackedSlice<L>;
};

// Of `count` blocks: activation scale * float(sum of activations), which minima are multiplied with.
TS_INLINE void keep_sums(const float* scale, const int16_t* sum, int count, float* out) {
  int b = 0;
  for (; b + 16 <= count; b += 16) store(out + b, mul(load(scale + b), to_f32(pair_sums(sum + 2 * b))));
  for (; b < count; b++) out[b] = scale[b] * static_cast<float>(sum[2 * b] + sum[2 * b + 1]);
}

// Of `count` blocks: what takes the code of zero off their dots.
template <int zero, bool halves>
TS_INLINE void keep_starts(const int16_t* sum, int count, int32_t* out) {
  if constexpr (halves) {
    for (int i = 0; i < 2 * count; i++) out[i] = -zero * sum[i];
  } else {
    int b = 0;
    for (; b + 16 <= count; b += 16) storei(out + b, muli(pair_sums(sum + 2 * b), set1i(-zero)));
    for (; b < count; b++) out[b] = -zero * (sum[2 * b] + sum[2 * b + 1]);
  }
}

// The above of the chunk's tokens at a slice, [tokens][kRow], kept for the next panels where one slice is the row.
template <class L, class W>
struct KeepSums {
  static constexpr size_t kRow = static_cast<size_t>(W::kSlice / 32 * (L::kHalves ? 2 : 1));
  alignas(64) typename Number<L::kMin>::Type numbers[W::kChunk][kRow];
  int at = -1;

  const void* keep(const Prepared& x, int token, int tokens, int k, int depth) {
    if (k == at) return numbers;
    at = k;
    for (int t = 0; t < tokens; t++) {
      const size_t block =
          static_cast<size_t>(x.cols) / 32 * static_cast<size_t>(token + t) + static_cast<size_t>(k) / 32;
      if constexpr (L::kMin) {
        keep_sums(x.scale + block, x.sum + 2 * block, depth / 32, numbers[t]);
      } else {
        keep_starts<L::kZero, L::kHalves>(x.sum + 2 * block, depth / 32, numbers[t]);
      }
    }
    return numbers;
  }
};

template <class L, class W, bool any>
struct KeepChoice {
  using Type = KeepSums<L, W>;
};
template <class L, class W>
struct KeepChoice<L, W, false> {
  using Type = KeepNothing;
};

// Accumulators fill the registers: 12 of 32 zmm (with as many f32 sums; 8 where halves have sums of their own), 8 of 16
// ymm, 16 of 32 q (halves of 16 bits without the dot instruction: two tokens).
template <class L>
struct Int8 {
#if defined(TS_ISA_AVX512)
  static constexpr int kWide = 2, kTile = L::kHalves ? 4 : 6, kWideTile = L::kHalves ? 4 : 8;
#elif defined(TS_ISA_NEON) && !defined(TS_ISA_DOTPROD)
  static constexpr int kWide = 1, kTile = 2, kWideTile = 2;
#else
  static constexpr int kWide = 1, kTile = 4, kWideTile = 4;
#endif
  using Prefill = Choice<L, kUnpacks<L>>;
  static constexpr int kStep = 32 * L::kGroup;
  using Few = Way<1, 4, 0, 4, 2048>;
  using Several = Way<kWide, kWideTile, 4, 16, 2048>;
  using Many = Way<kWide, kTile, 16, 192, Prefill::kSlice>;
  using Packed = L;
  using Sliced = typename Prefill::Form;
  using Unsliced = SameSlice;
  using Scratch = typename Prefill::Scratch;
  template <class W>
  using Keep = typename KeepChoice<L, W, L::kMin || L::kZero != 0>::Type;
  template <class Form, int P, int T, int ahead>
  static TS_INLINE void tile(const Span& span, int token, float* sums) {
    int8_tile<Form, P, T, ahead>(span, token, sums);
  }
};

}  // namespace

Kind activation_kind(DType type) noexcept {
  if (type == DType::bf16) return kPairs ? Kind::bf16 : Kind::f32;
  return type == DType::f32 || type == DType::f16 ? Kind::f32 : Kind::int8;
}

namespace {

// Two planes become the panels of a plain q8_0 matrix, a slice at a time.
struct MergedSlice {
  static constexpr int kBlocks = 24;  // two panels of them stay in the first-level cache
  alignas(64) uint8_t blocks[2][kBlocks * Q8_0::kBlock];
  const uint8_t* panels[2] = {blocks[0], blocks[1]};

  const uint8_t* const* unpack(const Call& c, const uint8_t* const* packed, int k, int depth) {
    for (int p = 0; p < 2; p++) {
      const uint8_t* coarse = packed[p] + k / 32 * Coarse::kBlock;
      const uint8_t* fine = fine_of(*c.w, packed[p]) + k / 32 * kFineBlock;
      for (int b = 0; b < depth / 32; b++, coarse += Coarse::kBlock, fine += kFineBlock) {
        merge_block(coarse, fine, blocks[p] + b * Q8_0::kBlock);
      }
    }
    return panels;
  }
};

// The same for few tokens: a block of P panels at a time.
template <int P, int T>
TS_INLINE void merged_tile(const Span& span, int token, float* sums) {
  Activations<Q8_0> a = activations_of<Q8_0>(span, token);
  const size_t b0 = static_cast<size_t>(span.k) / 32;
  alignas(64) uint8_t block[P][Q8_0::kBlock];
  const uint8_t *coarse[P], *fine[P], *at[P];
  TS_UNROLL for (int p = 0; p < P; p++) {
    coarse[p] = span.panels[p] + b0 * Coarse::kBlock;
    fine[p] = fine_of(*span.call->w, span.panels[p]) + b0 * kFineBlock;
    at[p] = block[p];
  }
  F f[T][P];
  TS_UNROLL for (int t = 0; t < T; t++) {
    TS_UNROLL for (int p = 0; p < P; p++) f[t][p] = span.first() ? zero() : load(sums + kStride * t + 16 * p);
  }
  for (int b = 0; b < span.depth / 32; b++, a.next()) {
    TS_UNROLL for (int p = 0; p < P; p++) {
      call_ahead(coarse[p], fine[p]);
      merge_block(coarse[p], fine[p], block[p]);
      coarse[p] += Coarse::kBlock, fine[p] += kFineBlock;
    }
    add_block<Q8_0, P, T>(at, at, a, f);
  }
  TS_UNROLL for (int t = 0; t < T; t++) {
    TS_UNROLL for (int p = 0; p < P; p++) store(sums + kStride * t + 16 * p, f[t][p]);
  }
}

struct Merged : Int8<Q8_0> {
  static constexpr int kSlice = 32 * MergedSlice::kBlocks;
  using Few = Way<1, 4, 0, 4, 2048>;
  using Several = Way<kWide, kWideTile, 4, 16, kSlice>;
  using Many = Way<kWide, kTile, 16, 192, kSlice>;
  using Packed = Coarse;
  using Sliced = Q8_0;
  using Scratch = MergedSlice;
  template <class Form, int P, int T, int ahead>
  static TS_INLINE void tile(const Span& span, int token, float* sums) {
    if constexpr (Form::kBits == 8) {
      int8_tile<Form, P, T, ahead>(span, token, sums);
    } else {
      merged_tile<P, T>(span, token, sums);
    }
  }
};

void multiply_any(const Call& call, Team& team) {
  if (call.w->fine) return multiply<Merged>(call, team);
  switch (call.w->type) {
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

}  // namespace

void matmul(const PackedMatrix& w, const Prepared& x, const float* bias, bool accumulate, float* out, size_t ldo,
            Team& team) noexcept {
  multiply_any({&w, &x, bias, accumulate, out, ldo}, team);
}

void matmul_gate(const PackedMatrix& w, const Prepared& x, const float* bias, Activation act, float* out, size_t ldo,
                 Team& team) noexcept {
  multiply_any({&w, &x, bias, false, out, ldo, &act}, team);
}

void gate_prepare(const PackedMatrix& w, const Prepared& x, const float* bias, Activation act, const Prepared& to,
                  Team& team) noexcept {
  multiply_any({&w, &x, bias, false, nullptr, 0, &act, &to}, team);
}

}  // namespace tokensieve::kernels::TS_ISA
