// The two planes of a q8_0 matrix (kernels/screen.h), each of panels of 16 rows as in panel.h. With code = q + 128:
//
//   coarse   blocks of 352 bytes: those of q5_0, their codes code >> 3
//   fine     blocks of 3 x 64 bytes: the low three bits of groups 2 i and 2 i + 1 in bits 0 to 2 and 4 to 6 of the i-th,
//            bit j of groups 6 and 7 in bits 3 and 7 of the j-th
//   reach    a byte a row, in steps of kReachStep
#pragma once

#include "kernels/cpu/panel.h"
#include "kernels/matmul.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

struct Coarse : Q5_0 {};

constexpr int kFineBlock = 192;
constexpr float kReachStep = 1.0f / 12;  // the largest norm is 3.5 sqrt(32) = 19.8

TS_INLINE size_t coarse_bytes(int cols) { return blocks_bytes<Coarse>(cols); }
TS_INLINE size_t fine_bytes(int cols) { return static_cast<size_t>(cols / 32) * kFineBlock; }

// The panel of the fine plane beside a panel of the coarse one.
TS_INLINE const uint8_t* fine_of(const PackedMatrix& w, const uint8_t* coarse) {
  return w.fine + static_cast<size_t>(coarse - w.data) / coarse_bytes(w.cols) * fine_bytes(w.cols);
}

// Calls for what is read 6 blocks later.
TS_INLINE void call_ahead(const uint8_t* coarse, const uint8_t* fine) {
  TS_UNROLL for (int i = 0; i < Coarse::kBlock; i += 64) __builtin_prefetch(coarse + 6 * Coarse::kBlock + i);
  TS_UNROLL for (int i = 0; i < kFineBlock; i += 64) __builtin_prefetch(fine + 6 * kFineBlock + i);
}

// Bits move by `by` to the left, where that is negative to the right: those that cross into a byte are not looked at.
template <int by>
TS_INLINE B move_b(B w) {
  if constexpr (by > 0) {
    return shl_b<by>(w);
  } else if constexpr (by < 0) {
    return shr_b<-by>(w);
  } else {
    return w;
  }
}

// In bits 0 to 2 the low bits of group g; the others are anything.
template <int g>
TS_INLINE B low_bits(const B (&fine)[3]) {
  if constexpr (g < 6) {
    return move_b<-4 * (g % 2)>(fine[g / 2]);
  } else {
    constexpr int at = g == 6 ? 3 : 7;
    const B two = select_b(set1b(2), move_b<1 - at>(fine[1]), move_b<2 - at>(fine[2]));
    return select_b(set1b(1), move_b<-at>(fine[0]), two);
  }
}

// top: the plane of the codes' highest bits.
template <int g>
TS_INLINE void merge_group(const uint8_t* coarse, B top, const B (&fine)[3], uint8_t* to) {
  if constexpr (g < 8) {
    constexpr int up = g < 4 ? 3 : -1;
    const B four = move_b<up>(load_b(coarse + 64 * (g % 4)));
    const B seven = select_b(set1b(0x78), four, low_bits<g>(fine));
    store_b(to + 64 * g, select_b(set1b(0x80), move_b<7 - kPlane[g]>(top), seven));
    merge_group<g + 1>(coarse, top, fine, to);
  }
}

// The block of a plain q8_0 panel.
TS_INLINE void merge_block(const uint8_t* coarse, const uint8_t* fine, uint8_t* to) {
  B top = load_b(coarse + 256);
  if constexpr (kBias8 == 0) top = xor_b(top, set1b(0xff));  // q in place of q + 128
  const B low[3] = {load_b(fine), load_b(fine + 64), load_b(fine + 128)};
  merge_group<0>(coarse, top, low, to);
  __builtin_memcpy(to + Q8_0::kCodeBytes, coarse + Coarse::kCodeBytes, 32);
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
