// Rows of activations in the forms of kernels/matmul.h.
#pragma once

#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

// x [32] -> q [32], its scale, and the sums of both halves of q. Blocks with no number of at least 1e-30 count as zero:
// 127 / max would be infinite.
TS_INLINE void quantize_block(const float* x, int8_t* q, float* scale, int16_t* sums) {
  const F a = load(x), b = load(x + 16);
  const float largest = reduce_max(max(abs(a), abs(b)));
  const bool zero_block = largest < 1e-30f;
  *scale = zero_block ? 0 : largest / 127;
  const F inverse = set1(zero_block ? 0 : 127 / largest);
  const I qa = to_i32(mul(a, inverse)), qb = to_i32(mul(b, inverse));
  store_i8(q, qa);
  store_i8(q + 16, qb);
  sums[0] = static_cast<int16_t>(reduce_addi(qa));
  sums[1] = static_cast<int16_t>(reduce_addi(qb));
}

// 16 blocks, with the same bits: their maxima, scales and sums side by side.
inline void quantize_16_blocks(const float* x, int8_t* q, float* scale, int16_t* sums) {
#if defined(TS_ISA_AVX512)
  F top[16];
  TS_UNROLL for (int b = 0; b < 16; b++) top[b] = max(abs(load(x + 32 * b)), abs(load(x + 32 * b + 16)));
  const F largest = max_of_each(top), least = set1(1e-30f);
  store(scale, select_less(largest, least, zero(), div(largest, set1(127))));
  float inverse[16];
  store(inverse, select_less(largest, least, zero(), div(set1(127), largest)));
  B bytes[8];
  TS_UNROLL for (int i = 0; i < 8; i++, x += 64) {
    const F a = set1(inverse[2 * i]), b = set1(inverse[2 * i + 1]);
    bytes[i] = bytes_of(to_i32(mul(load(x), a)), to_i32(mul(load(x + 16), a)), to_i32(mul(load(x + 32), b)),
                        to_i32(mul(load(x + 48), b)));
    store_b(q + 64 * i, bytes[i]);
  }
  store_sums_of_16(sums, bytes);
#else
  for (int b = 0; b < 16; b++) quantize_block(x + 32 * b, q + 32 * b, scale + b, sums + 2 * b);
#endif
}

inline void round_row(const float* x, int cols, uint16_t* y) {
  int k = 0;
  for (; k + 16 <= cols; k += 16) store_bf16(y + k, load(x + k));
  if (k == cols) return;
  uint16_t tail[16];
  store_bf16(tail, load_part(x + k, cols - k));  // the padding of an odd row is zero
  for (int i = 0; i < (cols - k + 1) / 2 * 2; i++) y[k + i] = tail[i];
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
