// How weights lie on the card, and how a warp takes them into the registers of its tensor cores.
//
// A panel is 16 rows, a group 64 columns, a step 16: a panel's step is the matrix A of one mma (m16n8k16). Lane 4 g + t
// of a warp holds rows g and g + 8, columns 4 t .. 4 t + 3 of every step, which is what it loads: a group's codes are
// one to four loads of 16 bytes a lane, 512 bytes side by side a warp. So weights never pass through shared memory, no
// lane unpacks what another has unpacked, and every byte is read by exactly one warp of a block. (The order of columns
// within a step is free as long as both factors have the same: four in a row make the other factor a load of 8 bytes.)
//
// A panel has four sections, each aligned to 16 bytes, rows and columns padded with zeros:
//   codes [groups][lane codes / 16][32 lanes][16 bytes]
//     4 bits (of 5 and 6 the lower ones): word s of a lane is step s; its register p at bits 4 p and, the odd column,
//       4 p + 16
//     8 bits: bytes 0 and 2 of word 2 s are register 0, bytes 1 and 3 register 1; word 2 s + 1: registers 2 and 3
//     16 bits: word p of load s is register p
//   high [groups][32 lanes][0, 4 or 8 bytes], bits above the fourth. 5 bits: of register p of step s bits 4 s + p, and
//     + 16; 6 bits: bits 2 (4 (s & 1) + p), and + 16, of word s / 2
//   scales [groups][8][8 or 16 bytes], entry g: of rows g and g + 8 side by side, f16 scale (and f16 minimum) of each
//     block of 32; for k types, bytes: scale and minimum of each block of 32, or (q6_k) the scale of each step
//   supers [groups / 4][8][4 or 8 bytes], entry g: f16 d (and dmin) of rows g and g + 8
// Panels stand one after another, so rows [16 i, ...) of a matrix are a matrix.
// The scales of q4_k and q5_k are bytes instead of 6 bits: 2.8 and 2.3 % more to read, no shifts to take them apart.
#pragma once

#include "core/dtype.h"
#include "device.h"
#include "kernels/cuda/activation.h"

namespace tokensieve::kernels::cuda {

constexpr int kPanel = 16, kGroup = 64, kStep = 16;

// Bytes of a group: of a lane (codes, high), of a pair of rows (scale; super: of 4 groups). zero: the code of 0.
struct Layout {
  int codes, high, scale, super, zero;
};
__host__ __device__ constexpr Layout layout_of(DType type) {
  switch (type) {
    case DType::f16:
    case DType::bf16: return {64, 0, 0, 0, 0};
    case DType::q8_0: return {32, 0, 8, 0, 128};
    case DType::q4_0: return {16, 0, 8, 0, 8};
    case DType::q5_0: return {16, 4, 8, 0, 16};
    case DType::q4_1: return {16, 0, 16, 0, 0};
    case DType::q5_1: return {16, 4, 16, 0, 0};
    case DType::q4_k: return {16, 0, 8, 8, 0};
    case DType::q5_k: return {16, 4, 8, 8, 0};
    case DType::q6_k: return {16, 8, 8, 4, 32};
    default: return {0, 0, 0, 0, 0};  // f32 lies row after row, see matmul_f32.cu
  }
}
__host__ __device__ constexpr bool has_minimum(DType type) {
  return layout_of(type).scale == 16 || layout_of(type).super == 8;
}

// A matrix as a kernel gets it: offsets of the sections in a panel.
struct Panels {
  const uint8_t* data;
  size_t bytes, high, scale, super;  // bytes: of a panel
  int groups, rows, cols;
};

inline Panels panels_of(DType type, const uint8_t* data, int rows, int cols) noexcept {
  const Layout l = layout_of(type);
  Panels p{};
  p.data = data, p.rows = rows, p.cols = cols;
  p.groups = (cols + kGroup - 1) / kGroup;
  const size_t groups = static_cast<size_t>(p.groups);
  p.high = groups * static_cast<size_t>(l.codes) * 32;
  p.scale = p.high + groups * static_cast<size_t>(l.high) * 32;
  p.super = p.scale + groups * static_cast<size_t>(l.scale) * 8;
  p.bytes = (p.super + (groups + 3) / 4 * static_cast<size_t>(l.super) * 8 + 127) / 128 * 128;
  return p;
}

// ---- a group of a panel in a warp's registers
// ------------------------------------------------------------------------

template <DType type>
struct Raw {
  static constexpr int kLoads = layout_of(type).codes / 16, kHigh = layout_of(type).high / 4,
                       kScale = layout_of(type).scale / 4, kSuper = layout_of(type).super / 4;
  uint4 codes[kLoads];
  uint32_t high[kHigh + 1], scale[kScale + 1], super[kSuper + 1];  // the last is not used
};

template <int words>
__device__ __forceinline__ void load_words(uint32_t* to, const uint8_t* from) {
  if constexpr (words == 4) {
    const uint4 v = *reinterpret_cast<const uint4*>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  } else if constexpr (words == 2) {
    const uint2 v = *reinterpret_cast<const uint2*>(from);
    to[0] = v.x, to[1] = v.y;
  } else if constexpr (words == 1) {
    to[0] = *reinterpret_cast<const uint32_t*>(from);
  }
}

template <DType type>
__device__ __forceinline__ void load_raw(const Panels& w, const uint8_t* panel, int group, int lane, Raw<type>& raw) {
  using R = Raw<type>;
  const uint4* codes = reinterpret_cast<const uint4*>(panel) + group * R::kLoads * 32 + lane;
#pragma unroll
  for (int i = 0; i < R::kLoads; i++) raw.codes[i] = codes[32 * i];
  load_words<R::kHigh>(raw.high, panel + w.high + (group * 32 + lane) * R::kHigh * 4);
  load_words<R::kScale>(raw.scale, panel + w.scale + (group * 8 + lane / 4) * R::kScale * 4);
  load_words<R::kSuper>(raw.super, panel + w.super + (group / 4 * 8 + lane / 4) * R::kSuper * 4);
}

__device__ __forceinline__ uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}
__device__ __forceinline__ float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ float low_half(uint32_t pair) { return half_to_float(static_cast<uint16_t>(pair)); }
__device__ __forceinline__ float high_half(uint32_t pair) { return half_to_float(static_cast<uint16_t>(pair >> 16)); }

// Left for a positive distance, right for a negative one.
__device__ __forceinline__ uint32_t shifted(uint32_t word, int left) {
  return left >= 0 ? word << left : word >> -left;
}

// Register p of step s: two codes of up to 6 bits as bf16(128 + code): the bits of 128 with the code as mantissa.
// 8 bits do not fit beside 128: these come as they are, less the code of zero.
template <DType type>
__device__ __forceinline__ uint32_t code_pair(const Raw<type>& raw, int s, int p) {
  if constexpr (layout_of(type).codes == 32) {
    const uint32_t bytes = word_of(raw.codes[s / 2], s % 2 * 2 + p / 2) >> p % 2 * 8;
    // 128 + (code & 127), less 256 or, where bit 7 is set, 128
    return add_bf16x2((bytes & 0x007f007fu) | 0x43004300u, (bytes & 0x00800080u) ^ 0xc380c380u);
  } else {
    uint32_t pair = (word_of(raw.codes[0], s) >> 4 * p & 0x000f000fu) | 0x43004300u;
    if constexpr (Raw<type>::kHigh == 1) pair |= shifted(raw.high[0], 4 - (4 * s + p)) & 0x00100010u;
    if constexpr (Raw<type>::kHigh == 2) pair |= shifted(raw.high[s / 2], 4 - 2 * (s % 2 * 4 + p)) & 0x00300030u;
    return pair;
  }
}
// What code_pair adds to a code less its zero.
__host__ __device__ constexpr int code_bias(DType type) {
  return layout_of(type).codes == 32 ? 0 : 128 + layout_of(type).zero;
}

// The codes of step s, less zero: integers of up to 8 bits, exact in bf16.
template <DType type>
__device__ __forceinline__ void code_fragment(const Raw<type>& raw, int s, uint32_t (&a)[4]) {
  constexpr uint32_t kBias = 0xc300c300u | static_cast<uint32_t>(layout_of(type).zero) * 0x10001u;  // -(128 + zero)
#pragma unroll
  for (int p = 0; p < 4; p++) {
    a[p] = code_pair<type>(raw, s, p);
    if constexpr (code_bias(type) != 0) a[p] = add_bf16x2(a[p], kBias);
  }
}

// Scale and what is added, of rows g and g + 8 in step s.
struct Scales {
  float d[2], m[2];
};
template <DType type>
__device__ __forceinline__ Scales scales_of(const Raw<type>& raw, int s) {
  Scales of{};
  const int b = s / 2;
  if constexpr (type == DType::q6_k) {
    const uint32_t bytes = raw.scale[b] >> s % 2 * 16;
    of.d[0] = low_half(raw.super[0]) * static_cast<float>(static_cast<int8_t>(bytes));
    of.d[1] = high_half(raw.super[0]) * static_cast<float>(static_cast<int8_t>(bytes >> 8));
  } else if constexpr (Raw<type>::kSuper == 2) {
    const uint32_t bytes = raw.scale[b];
    of.d[0] = low_half(raw.super[0]) * static_cast<float>(bytes & 255);
    of.d[1] = high_half(raw.super[0]) * static_cast<float>(bytes >> 8 & 255);
    of.m[0] = -low_half(raw.super[1]) * static_cast<float>(bytes >> 16 & 255);
    of.m[1] = -high_half(raw.super[1]) * static_cast<float>(bytes >> 24);
  } else if constexpr (Raw<type>::kScale == 4) {
    of.d[0] = low_half(raw.scale[2 * b]), of.d[1] = high_half(raw.scale[2 * b]);
    of.m[0] = low_half(raw.scale[2 * b + 1]), of.m[1] = high_half(raw.scale[2 * b + 1]);
  } else {
    of.d[0] = low_half(raw.scale[b]), of.d[1] = high_half(raw.scale[b]);
  }
  return of;
}

// ---- what both products share
// ----------------------------------------------------------------------------------------

// Activations in bf16. even: the stride, cols rounded up to 2; wide: rows begin at multiples of 16 bytes.
struct Tokens {
  const uint16_t* x;
  int n, cols, even;
  bool wide;
};

// gated: rows are those of matmul_gate, panels of gate rows and of up rows in turn, and `out` has half as many columns.
struct Output {
  float* out;
  size_t ldo;
  const float* bias;
  int rows, n;
  bool accumulate, gated = false;
  AnyActivation act = {};
};

__device__ __forceinline__ void put(float* to, float sum, bool accumulate) { *to = accumulate ? *to + sum : sum; }
__device__ __forceinline__ float biased(const Output& out, int row, float sum) {
  return out.bias ? sum + out.bias[row] : sum;
}
// Of gate row `row` and the up row that is kPanel further: as the sums would be stored, then gated.
__device__ __forceinline__ float gated_sum(const Output& out, int row, float gate, float up) {
  return activated(out.act, biased(out, row, gate)) * biased(out, row + kPanel, up);
}
// The column of `out` that gate row `row` leads to.
__device__ __forceinline__ int gated_column(int row) { return row / (2 * kPanel) * kPanel + row % kPanel; }

}  // namespace tokensieve::kernels::cuda
