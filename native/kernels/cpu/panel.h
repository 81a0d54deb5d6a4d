// The packed form of a weight matrix: panels of 16 rows, each one contiguous stream in the order in which it is read.
// Row l of a panel is lane l. Rows past the last are zero.
//
//   f32, f16, bf16   [cols][16]; bf16 with a bf16 dot: [cols / 2, rounded up][16][2]
//   the others       blocks of 32 columns: 8 groups of 4 columns, a group being 64 bytes [16 rows][4 columns] once its
//                    codes are unpacked; group g of block b holds columns 32 b + 4 g ... + 3:
//     8 bits   8 x 64 bytes, q + kBias8                                    q8_0
//     4 bits   4 x 64 bytes: group g in the low nibbles, group g + 4 in the high ones
//     5 bits   4 bits, then 64 bytes whose bit kPlane[g] is the fifth bit of group g
//     6 bits   4 bits, then 2 x 64 bytes whose bit pair g % 4 is the top of group g
//
//   q8_0     codes, f16 d[16]                        544 bytes a block       value d (code - kBias8)
//   q4_0     codes, f16 d[16]                        288                     d (code - 8)
//   q5_0     codes, f16 d[16]                        352                     d (code - 16)
//   q4_1     codes, f16 d[16], f16 m[16]             320                     d code + m
//   q5_1     codes, f16 d[16], f16 m[16]             384                     d code + m
//   q4_k     of 8 blocks: f16 d[16], f16 dmin[16], then each block: codes, u8 scale[16], u8 min[16]:
//                                                                        value d scale code - dmin min
//   q5_k     the same with 5 bits
//   q6_k     of 8 blocks: f16 d[16], then each block: codes, i8 scale[2][16], one a half:
//                                                                        value d scale (code - 32)
// Scales and minima are kept as the file has them, so a packed row dequantizes to the same bits as a GGUF row.
#pragma once

#include "core/dtype.h"
#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

constexpr int kPlane[8] = {0, 4, 1, 5, 2, 6, 3, 7};

// ---- codes ---------------------------------------------------------------------------------------------------------
struct Codes8 {
  static constexpr int kBits = 8;
  static constexpr int kCodeBytes = 512;
  template <int g>
  static TS_INLINE B code(const uint8_t* p) {
    return load_b(p + 64 * g);
  }
};

struct Codes4 {
  static constexpr int kBits = 4;
  static constexpr int kCodeBytes = 256;
  template <int g>
  static TS_INLINE B code(const uint8_t* p) {
    const B w = load_b(p + 64 * (g % 4));
    if constexpr (g < 4) {
      return and_b(w, set1b(15));
    } else {
      return and_b(shr_b<4>(w), set1b(15));
    }
  }
};

// Bits from..from + 7 of w, moved to bit 4, of which `mask` stays.
template <int from>
TS_INLINE B to_bit_4(B w, int mask) {
  if constexpr (from < 4) {
    return and_b(shl_b<4 - from>(w), set1b(mask));
  } else if constexpr (from == 4) {
    return and_b(w, set1b(mask));
  } else {
    return and_b(shr_b<from - 4>(w), set1b(mask));
  }
}

struct Codes5 {
  static constexpr int kBits = 5;
  static constexpr int kCodeBytes = 320;
  template <int g>
  static TS_INLINE B code(const uint8_t* p) {
    return or_b(Codes4::code<g>(p), to_bit_4<kPlane[g]>(load_b(p + 256), 16));
  }
};

struct Codes6 {
  static constexpr int kBits = 6;
  static constexpr int kCodeBytes = 384;
  template <int g>
  static TS_INLINE B code(const uint8_t* p) {
    return or_b(Codes4::code<g>(p), to_bit_4<2 * (g % 4)>(load_b(p + 256 + 64 * (g / 4)), 48));
  }
};

// ---- block types ---------------------------------------------------------------------------------------------------
// kGroup blocks share a header of kHead bytes. kZero: the code of 0. kMin: a minimum is added. kHalves: two scales.
template <class Codes, int zero>
struct Symmetric : Codes {
  static constexpr int kGroup = 1, kHead = 0, kBlock = Codes::kCodeBytes + 32, kZero = zero;
  static constexpr bool kMin = false, kHalves = false;
  static TS_INLINE F scale(const uint8_t*, const uint8_t* block, int) { return load_f16(block + Codes::kCodeBytes); }
  static TS_INLINE F minimum(const uint8_t*, const uint8_t*) { return set1(0); }
};

template <class Codes>
struct Affine : Codes {
  static constexpr int kGroup = 1, kHead = 0, kBlock = Codes::kCodeBytes + 64, kZero = 0;
  static constexpr bool kMin = true, kHalves = false;
  static TS_INLINE F scale(const uint8_t*, const uint8_t* block, int) { return load_f16(block + Codes::kCodeBytes); }
  static TS_INLINE F minimum(const uint8_t*, const uint8_t* block) { return load_f16(block + Codes::kCodeBytes + 32); }
};

// Products of an 11-bit d and a 6-bit scale are exact in f32.
template <class Codes>
struct Nested : Codes {
  static constexpr int kGroup = 8, kHead = 64, kBlock = Codes::kCodeBytes + 32, kZero = 0;
  static constexpr bool kMin = true, kHalves = false;
  static TS_INLINE F scale(const uint8_t* head, const uint8_t* block, int) {
    return mul(load_f16(head), load_u8(block + Codes::kCodeBytes));
  }
  static TS_INLINE F minimum(const uint8_t* head, const uint8_t* block) {
    return mul(load_f16(head + 32), sub(set1(0), load_u8(block + Codes::kCodeBytes + 16)));
  }
};

struct Halved : Codes6 {
  static constexpr int kGroup = 8, kHead = 32, kBlock = kCodeBytes + 32, kZero = 32;
  static constexpr bool kMin = false, kHalves = true;
  static TS_INLINE F scale(const uint8_t* head, const uint8_t* block, int half) {
    return mul(load_f16(head), load_i8(block + kCodeBytes + 16 * half));
  }
  static TS_INLINE F minimum(const uint8_t*, const uint8_t*) { return set1(0); }
};

struct Q8_0 : Symmetric<Codes8, kBias8> {};
struct Q4_0 : Symmetric<Codes4, 8> {};
struct Q5_0 : Symmetric<Codes5, 16> {};
struct Q4_1 : Affine<Codes4> {};
struct Q5_1 : Affine<Codes5> {};
struct Q4_K : Nested<Codes4> {};
struct Q5_K : Nested<Codes5> {};
struct Q6_K : Halved {};

// Block b of a panel of W and the header that it shares.
template <class W>
TS_INLINE const uint8_t* head_of(const uint8_t* panel, int b) {
  return panel + static_cast<size_t>(b / W::kGroup) * (W::kHead + W::kGroup * W::kBlock);
}
template <class W>
TS_INLINE const uint8_t* block_of(const uint8_t* panel, int b) {
  return head_of<W>(panel, b) + W::kHead + b % W::kGroup * W::kBlock;
}

#if defined(TS_ISA_BF16)
constexpr bool kPairs = true;
#else
constexpr bool kPairs = false;
#endif

template <class W>
TS_INLINE size_t blocks_bytes(int cols) {
  return static_cast<size_t>(cols / 32 / W::kGroup) * (W::kHead + W::kGroup * W::kBlock);
}

// Bytes of one panel.
inline size_t panel_bytes(DType type, int cols) {
  const size_t n = static_cast<size_t>(cols);
  switch (type) {
    case DType::f32: return 64 * n;
    case DType::f16: return 32 * n;
    case DType::bf16: return kPairs ? (n + 1) / 2 * 64 : 32 * n;
    case DType::q8_0: return blocks_bytes<Q8_0>(cols);
    case DType::q4_0: return blocks_bytes<Q4_0>(cols);
    case DType::q4_1: return blocks_bytes<Q4_1>(cols);
    case DType::q5_0: return blocks_bytes<Q5_0>(cols);
    case DType::q5_1: return blocks_bytes<Q5_1>(cols);
    case DType::q4_k: return blocks_bytes<Q4_K>(cols);
    case DType::q5_k: return blocks_bytes<Q5_K>(cols);
    case DType::q6_k: return blocks_bytes<Q6_K>(cols);
    case DType::kivi4:
    case DType::kivi2: break;
  }
  return 0;
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
