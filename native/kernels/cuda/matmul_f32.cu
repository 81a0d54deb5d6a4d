// f32 weights, in f32 throughout. They lie row after row, rounded up to panels.
//
// Up to 8 tokens: a warp a row, lanes side by side along it, 8 loads of 128 bytes on their way; read once for all
// tokens. Bound by memory: 2 to 16 instructions a weight, where an H100 has 34 at its limit. More: tiles of 64 rows x
// 64 tokens, 16 columns at a time through shared memory, 4 x 4 sums a thread. A quarter of the loads of operands goes
// with each fused multiply and add: half of the f32 rate. Few models have such weights.
#include "kernels/cuda/matmul_parts.h"

namespace tokensieve::kernels::cuda {

constexpr int kFewRows = 8, kSide = 64, kDepth = 16, kPitch = kSide + 4;  // the pitch keeps float4 aligned

struct Plain {
  const float *w, *x;
  size_t ldx;
  int cols;
};

// The warp's sum of a row and token `lane`.
template <int kTokens>
__device__ __forceinline__ float sum_row(const Plain& p, int n, int row) {
  float sums[kTokens] = {}, own = 0;
  const float* w = p.w + static_cast<size_t>(p.cols) * static_cast<size_t>(row);
#pragma unroll 8
  for (int k = threadIdx.x % 32; k < p.cols; k += 32) {
    const float weight = w[k];
#pragma unroll
    for (int t = 0; t < kTokens; t++) {
      if (t < n) sums[t] = fmaf(weight, p.x[p.ldx * static_cast<size_t>(t) + k], sums[t]);
    }
  }
#pragma unroll
  for (int t = 0; t < kTokens; t++) {
    for (int away = 16; away > 0; away /= 2) sums[t] += __shfl_xor_sync(0xffffffffu, sums[t], away);
    if (static_cast<int>(threadIdx.x % 32) == t) own = sums[t];
  }
  return own;
}

// gated: of a gate row, and of its up row after it.
template <int kTokens, bool gated>
__global__ void __launch_bounds__(kFewRows * 32) matmul_f32_few(Plain p, Output out) {
  const int index = static_cast<int>(blockIdx.x) * kFewRows + static_cast<int>(threadIdx.x / 32),
            row = gated ? index / kPanel * 2 * kPanel + index % kPanel : index, token = threadIdx.x % 32;
  if (row >= out.rows) return;
  const float sum = sum_row<kTokens>(p, out.n, row), up = gated ? sum_row<kTokens>(p, out.n, row + kPanel) : 0;
  if (token >= out.n) return;
  float* const to = out.out + out.ldo * static_cast<size_t>(token) + index;
  if constexpr (gated) {
    *to = gated_sum(out, row, sum, up);
  } else {
    put(to, biased(out, row, sum), out.accumulate);
  }
}

// to [kDepth][kPitch] = 64 rows of `from` (count of them there) in columns [k0, k0 + 16), zeros where there are none
__device__ __forceinline__ void fill_tile(const float* from, size_t ld, int count, int k0, int cols, float* to) {
  for (int i = threadIdx.x; i < kSide * kDepth; i += 256) {
    const int row = i / kDepth, k = i % kDepth;
    to[k * kPitch + row] = row < count && k0 + k < cols ? from[ld * static_cast<size_t>(row) + k0 + k] : 0;
  }
}

__global__ void __launch_bounds__(256) matmul_f32_tiles(Plain p, Output out) {
  SHARED_MEMORY(float, tiles);
  float *const ws = tiles, *const xs = tiles + kDepth * kPitch;
  const int row0 = static_cast<int>(blockIdx.y) * kSide, token0 = static_cast<int>(blockIdx.x) * kSide,
            row = threadIdx.x % 16 * 4, token = threadIdx.x / 16 * 4;
  float sums[4][4] = {};  // [token][row]
  for (int k0 = 0; k0 < p.cols; k0 += kDepth) {
    __syncthreads();
    fill_tile(p.w + static_cast<size_t>(p.cols) * static_cast<size_t>(row0), static_cast<size_t>(p.cols),
              out.rows - row0, k0, p.cols, ws);
    fill_tile(p.x + p.ldx * static_cast<size_t>(token0), p.ldx, out.n - token0, k0, p.cols, xs);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; k++) {
      const float4 w = *reinterpret_cast<const float4*>(ws + k * kPitch + row);
      const float4 x = *reinterpret_cast<const float4*>(xs + k * kPitch + token);
      const float weights[4] = {w.x, w.y, w.z, w.w}, numbers[4] = {x.x, x.y, x.z, x.w};
      for (int i = 0; i < 16; i++) sums[i / 4][i % 4] = fmaf(weights[i % 4], numbers[i / 4], sums[i / 4][i % 4]);
    }
  }
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const int r = row0 + row + i % 4, t = token0 + token + i / 4;
    const float sum = sums[i / 4][i % 4], up = __shfl_down_sync(0xffffffffu, sum, kPanel / 4);  // of row r + 16
    if (r >= out.rows || t >= out.n) continue;
    float* const to = out.out + out.ldo * static_cast<size_t>(t);
    if (!out.gated) {
      put(to + r, biased(out, r, sum), out.accumulate);
    } else if (r % (2 * kPanel) < kPanel) {
      to[gated_column(r)] = gated_sum(out, r, sum, up);
    }
  }
}

template <int kTokens>
void launch_few(const Plain& p, const Output& out, Stream stream) noexcept {
  const int rows = out.gated ? out.rows / 2 : out.rows, blocks = (rows + kFewRows - 1) / kFewRows;
  if (out.gated) {
    LAUNCH((matmul_f32_few<kTokens, true>), blocks, kFewRows * 32, 0, stream, p, out);
  } else {
    LAUNCH((matmul_f32_few<kTokens, false>), blocks, kFewRows * 32, 0, stream, p, out);
  }
}

void multiply_f32(const PackedMatrix& w, const Prepared& x, const Output& out, Stream stream) noexcept {
  const Plain p{reinterpret_cast<const float*>(w.data), x.f32, x.ld, w.cols};
  if (x.n == 1) {
    launch_few<1>(p, out, stream);
  } else if (x.n <= kFewTokens) {
    launch_few<kFewTokens>(p, out, stream);
  } else {
    const dim3 grid(static_cast<unsigned>((x.n + kSide - 1) / kSide),
                    static_cast<unsigned>((w.rows + kSide - 1) / kSide));
    LAUNCH(matmul_f32_tiles, grid, 256, 2 * kDepth * kPitch * sizeof(float), stream, p, out);
  }
}

}  // namespace tokensieve::kernels::cuda
