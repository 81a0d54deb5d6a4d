// Scores of a page of f32, f16 or bf16 keys: 16 keys are the lanes of a register, channels are walked, up to 4 query
// rows share each load.
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/page_layout.h"
#include "kernels/cpu/simd_codes.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

// A score is the sum of this many chains, of every so manieth channel each: enough to hide an FMA's latency.
#if defined(TS_ISA_AVX512)
constexpr int kChains = 4;
#else
constexpr int kChains = 1;  // the registers hold 4 rows of one
#endif

struct Keys {
  const uint8_t* page;
  const uint8_t* ahead;
  int d, block;    // head_size; of 16 keys
  const float* q;  // [R][d]
};

template <DType type>
TS_INLINE F load_key(const uint8_t* codes) {
  if constexpr (type == DType::f32) return load(reinterpret_cast<const float*>(codes));
  if constexpr (type == DType::f16) return load_f16(codes);
  return load_bf16(codes);
}

// Block after block in the order of memory, which the machine's own foresight follows best.
template <DType type, int R>
void block_scores(const Keys& k, float* s, size_t lds) {
  constexpr size_t unit = static_cast<size_t>(16 * code_bits(type) / 8);
  const size_t start = key_block_bytes(type, k.d) * static_cast<size_t>(k.block);
  F acc[kChains][R];
  TS_UNROLL for (int i = 0; i < kChains; i++) { TS_UNROLL for (int r = 0; r < R; r++) acc[i][r] = zero(); }
  const uint8_t* codes = k.page + start;
  const uint8_t* ahead = k.ahead + start;
  for (int c = 0; c < k.d; c += kChains, codes += kChains * unit, ahead += kChains * unit) {
    TS_UNROLL for (size_t line = 0; line < kChains * unit; line += 64) __builtin_prefetch(ahead + line, 0, kNear);
    TS_UNROLL for (int i = 0; i < kChains; i++) {
      const F key = load_key<type>(codes + static_cast<size_t>(i) * unit);
      TS_UNROLL for (int r = 0; r < R; r++) acc[i][r] = fma(set1(k.q[r * k.d + c + i]), key, acc[i][r]);
    }
  }
  TS_UNROLL for (int r = 0; r < R; r++) {
    F sum = acc[0][r];
    if constexpr (kChains == 4) sum = add(add(sum, acc[1][r]), add(acc[2][r], acc[3][r]));
    store(s + static_cast<size_t>(r) * lds, sum);
  }
}

template <DType type, int R>
void page_scores(Keys k, int first, int count, float* s) {
  const int last = (first + count - 1) / 16;
  int lead = first % 16;
  for (k.block = first / 16; k.block <= last; k.block++) {
    float apart[R][16];  // where the first lanes are not asked for
    float* y = lead ? apart[0] : s;
    block_scores<type, R>(k, y, lead ? 16 : kScoreRow);
    const int lanes = 16 - lead;
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

}  // namespace

void key_scores(const Slice& slice, int head_size, const float* q, int rows, float* s) noexcept {
  const Piece& piece = slice.piece;
  Keys k{piece.page, slice.ahead, head_size, 0, q};
  for (; rows > 0; rows -= 4, k.q += 4 * head_size, s += 4 * kScoreRow) {
    const int some = rows < 4 ? rows : 4;
    switch (piece.type) {
      case DType::f32: row_scores<DType::f32>(k, piece.first, piece.count, some, s); break;
      case DType::f16: row_scores<DType::f16>(k, piece.first, piece.count, some, s); break;
      default: row_scores<DType::bf16>(k, piece.first, piece.count, some, s); break;
    }
  }
}

}  // namespace tokensieve::kernels::TS_ISA
