// Weights times up to 8 tokens: the decode step. Every weight is read once and is the matrix A of an mma whose other
// side is the 8 tokens, so one token costs what eight cost: bytes of weights over bandwidth. Tensor cores are used for
// what they spare, not for their speed: a weight of 4 bits costs 1.7 instructions a lane here (5.5 are there at the
// memory limit of an A100, 4.8 of an H100), where its conversion to f32 and eight fused multiplies and adds would
// cost 12.
//
// Codes less zero are integers, exact in bf16; f16 weights are the sum of two bf16. The dots of a block of 32 (q6_k:
// 16) are scaled in f32; minima are multiplied with the block's sum of activations, which is an mma with ones. So the
// weights are exact and only the activations are rounded (to bf16); sums are in f32.
//
// A block takes a panel, its 8 warps every eighth group of 64 columns with two groups on their way; or, of a gate, a
// panel of gate rows and one of up rows: the two groups are the same columns of both, which share their activations. 64
// registers a thread leave room for 4 blocks on a multiprocessor, 80 (16 bits, k types) for 3: 24 to 32 warps, each with
// 1.1 KB (4 bits) to 4 KB of weights on their way, where an H100 at 3.35 TB/s and 700 ns needs 18 KB in all. The sums of
// the warps are added in their order. x comes through L1.
#include "kernels/cuda/matmul_parts.h"

namespace tokensieve::kernels::cuda {

constexpr int kFewWarps = 8, kPartNumbers = kFewWarps * 32 * 4;

// Four columns of a row; rows whose length is no multiple of 8 (f16, bf16) are read by pairs.
template <DType type>
__device__ __forceinline__ uint2 four_columns(const Tokens& x, const uint16_t* row, int k) {
  uint2 four = make_uint2(0, 0);
  if (layout_of(type).codes != 64 || x.wide) {
    if (k < x.cols) four = *reinterpret_cast<const uint2*>(row + k);
  } else {
    if (k < x.cols) four.x = *reinterpret_cast<const uint32_t*>(row + k);
    if (k + 2 < x.cols) four.y = *reinterpret_cast<const uint32_t*>(row + k + 2);
  }
  return four;
}

// to[s]: of token lane / 4, columns 4 (lane % 4) .. + 3 of step s
template <DType type>
__device__ __forceinline__ void load_columns(const Tokens& x, int group, int lane, uint2 (&to)[4]) {
  const int token = lane / 4;
  const uint16_t* row = x.x + static_cast<size_t>(x.even) * static_cast<size_t>(token);
#pragma unroll
  for (int s = 0; s < 4; s++) {
    to[s] = token < x.n ? four_columns<type>(x, row, group * kGroup + s * kStep + lane % 4 * 4) : make_uint2(0, 0);
  }
}

// sums += scales * dots, of rows g (0, 1) and g + 8 (2, 3)
__device__ __forceinline__ void add_scaled(const float (&scale)[2], const float (&dots)[4], float (&sums)[4]) {
#pragma unroll
  for (int i = 0; i < 4; i++) sums[i] = fmaf(scale[i / 2], dots[i], sums[i]);
}

// A step's f16 weights as the sum of two bf16.
__device__ __forceinline__ void split_halves(const uint4& halves, uint32_t (&high)[4], uint32_t (&low)[4]) {
#pragma unroll
  for (int p = 0; p < 4; p++) {
    const uint32_t pair = word_of(halves, p);
    const float a = low_half(pair), b = high_half(pair);
    high[p] = pack_bf16(a, b);
    low[p] = pack_bf16(a - low_bf16(high[p]), b - high_bf16(high[p]));
  }
}

template <DType type>
__device__ __forceinline__ void add_group(const Raw<type>& w, const uint2 (&x)[4], float (&sums)[4]) {
  constexpr uint32_t kOne = 0x3f803f80u, kOnes[4] = {kOne, kOne, kOne, kOne};
  constexpr int kBlock = type == DType::q6_k ? 1 : 2;  // steps
  float dots[4], totals[4];
#pragma unroll
  for (int s = 0; s < 4; s++) {
    const uint32_t b[2] = {x[s].x, x[s].y};
    uint32_t a[4];
    if constexpr (layout_of(type).codes == 64) {
      uint32_t low[4] = {};
      a[0] = w.codes[s].x, a[1] = w.codes[s].y, a[2] = w.codes[s].z, a[3] = w.codes[s].w;
      if constexpr (type == DType::f16) split_halves(w.codes[s], a, low);
      mma_bf16(sums, a, b);
      if constexpr (type == DType::f16) mma_bf16(sums, low, b);
    } else {
      if (s % kBlock == 0) {
        for (int i = 0; i < 4; i++) dots[i] = totals[i] = 0;
      }
      code_fragment<type>(w, s, a);
      mma_bf16(dots, a, b);
      if constexpr (has_minimum(type)) mma_bf16(totals, kOnes, b);
      if ((s + 1) % kBlock == 0) {
        const Scales scales = scales_of<type>(w, s);
        add_scaled(scales.d, dots, sums);
        if constexpr (has_minimum(type)) add_scaled(scales.m, totals, sums);
      }
    }
  }
}

// Blocks of a multiprocessor that the registers of a type leave room for.
constexpr int few_blocks(DType type) {
  return layout_of(type).codes == 64 || (has_minimum(type) && type != DType::q4_1) ? 3 : 4;
}

// parts [warps][32 lanes][4]: the sum over the warps, of row i of the panel.
__device__ __forceinline__ float add_parts(const float* parts, int i, int token) {
  const float* part = parts + (i % 8 * 4 + token / 2) * 4 + i / 8 * 2 + token % 2;
  float sum = 0;
  for (int w = 0; w < kFewWarps; w++) sum += part[w * 128];
  return sum;
}

// The second panel of a gate is up rows; else it is the first one, and `odd` its next group.
template <DType type, bool gated>
__global__ void __launch_bounds__(kFewWarps * 32, few_blocks(type)) matmul_few(Panels w, Tokens x, Output out) {
  SHARED_MEMORY(float, parts);  // [gated ? 2 : 1][warps][32 lanes][4]
  constexpr int kPanels = gated ? 2 : 1, kOdd = gated ? 0 : kFewWarps, kNext = gated ? kFewWarps : 2 * kFewWarps;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint8_t *panel = w.data + w.bytes * (blockIdx.x * kPanels), *second = panel + (gated ? w.bytes : 0);
  float sums[kPanels][4] = {};
  Raw<type> even, odd;
  uint2 even_x[4], odd_x[4];
  const auto load_even = [&](int group) {
    if (group >= w.groups) return;
    load_raw<type>(w, panel, group, lane, even);
    if (!gated) load_columns<type>(x, group, lane, even_x);
  };
  const auto load_odd = [&](int group) {
    if (group >= w.groups) return;
    load_raw<type>(w, second, group, lane, odd);
    load_columns<type>(x, group, lane, gated ? even_x : odd_x);
  };
  load_even(warp);
  load_odd(warp + kOdd);
  for (int group = warp; group < w.groups; group += kNext) {
    add_group<type>(even, even_x, sums[0]);
    load_even(group + kNext);
    if (group + kOdd < w.groups) add_group<type>(odd, gated ? even_x : odd_x, sums[kPanels - 1]);
    load_odd(group + kNext + kOdd);
  }
#pragma unroll
  for (int i = 0; i < 4 * kPanels; i++) parts[i / 4 * kPartNumbers + threadIdx.x * 4 + i % 4] = sums[i / 4][i % 4];
  __syncthreads();
  const int i = threadIdx.x % 16, row = static_cast<int>(blockIdx.x) * kPanels * kPanel + i, token = threadIdx.x / 16;
  if (token >= out.n || row >= out.rows) return;
  const float sum = add_parts(parts, i, token);
  float* const to = out.out + out.ldo * static_cast<size_t>(token);
  if constexpr (gated) {
    to[gated_column(row)] = gated_sum(out, row, sum, add_parts(parts + kPartNumbers, i, token));
  } else {
    put(to + row, biased(out, row, sum), out.accumulate);
  }
}

void multiply_few(DType type, const Panels& w, const Tokens& x, const Output& out, Stream stream) noexcept {
  const int panels = (w.rows + kPanel - 1) / kPanel, threads = kFewWarps * 32, bytes = kPartNumbers * sizeof(float);
  with_type(type, [&](auto t) {
    constexpr DType kType = decltype(t)::value;
    if (out.gated) {
      LAUNCH((matmul_few<kType, true>), panels / 2, threads, 2 * bytes, stream, w, x, out);
    } else {
      LAUNCH((matmul_few<kType, false>), panels, threads, bytes, stream, w, x, out);
    }
  });
}

}  // namespace tokensieve::kernels::cuda
