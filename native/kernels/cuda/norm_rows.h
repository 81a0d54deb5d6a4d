// What both norms do with rows. Up to 512 numbers (heads) they take a warp each, longer ones a block. A row is read twice
// or three times, from L1 but for the first: bound by the bandwidth of L2, where activations are.
#pragma once

#include "device.h"

namespace tokensieve::kernels::cuda {

constexpr int kRowThreads = 256, kShortRow = 512;  // numbers

// The sum over the threads that share a row, in all of them and in every run the same: the order of additions is fixed.
// scratch: [8] of the block (kWarps == 8). Called again and again with the same scratch.
template <int kWarps>
__device__ __forceinline__ float row_sum(float value, float* scratch) {
  for (int away = 16; away > 0; away /= 2) value += __shfl_xor_sync(0xffffffffu, value, away);
  if constexpr (kWarps > 1) {
    __syncthreads();  // whoever reads the sum before has done so
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
    __syncthreads();
    value = ((scratch[0] + scratch[1]) + (scratch[2] + scratch[3])) +
            ((scratch[4] + scratch[5]) + (scratch[6] + scratch[7]));
  }
  return value;
}

// A row of d numbers as one of its threads has it; `index` counts the rows of all tokens.
template <int kWarps>
struct Row {
  size_t index;
  int d;
  float* scratch;

  template <class F>
  __device__ __forceinline__ void each(F&& f) const {
    constexpr int kThreads = kWarps * 32;
    for (int i = static_cast<int>(threadIdx.x % kThreads); i < d; i += kThreads) f(i);
  }
  // Of what the threads have summed, a number's share of it.
  __device__ __forceinline__ float mean(float sum) const {
    return row_sum<kWarps>(sum, scratch) / static_cast<float>(d);
  }
};

// norm.apply(row) for rows [0, norm.rows()) of norm.d numbers.
template <class Norm, int kWarps>
__global__ void __launch_bounds__(kRowThreads) normalize(Norm norm) {
  SHARED_MEMORY(float, scratch);
  constexpr unsigned kThreads = kWarps * 32;
  const size_t index = static_cast<size_t>(blockIdx.x) * (kRowThreads / kThreads) + threadIdx.x / kThreads;
  if (index < norm.rows()) norm.apply(Row<kWarps>{index, norm.d, scratch});
}

template <class Norm>
void launch_norm(const Norm& norm, Stream stream) noexcept {
  const size_t rows = norm.rows(), warps = kRowThreads / 32;
  if (rows == 0) return;
  if (norm.d <= kShortRow) {
    LAUNCH((normalize<Norm, 1>), static_cast<unsigned>((rows + warps - 1) / warps), kRowThreads, 0, stream, norm);
  } else {
    LAUNCH((normalize<Norm, 8>), static_cast<unsigned>(rows), kRowThreads, 8 * sizeof(float), stream, norm);
  }
}

}  // namespace tokensieve::kernels::cuda
