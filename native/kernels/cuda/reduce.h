// Sums over the threads that share a row: one warp for short rows, eight (a block) for long ones. All threads get the
// sum, which is the same in every run: the order of additions is fixed.
#pragma once

#include "device.h"

namespace tokensieve::kernels::cuda {

constexpr int kRowThreads = 256, kShortRow = 512;  // numbers

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

// Blocks of 256 threads for `rows` rows.
template <int kWarps>
unsigned row_blocks(size_t rows) noexcept {
  constexpr size_t kEach = kRowThreads / 32 / kWarps;
  return static_cast<unsigned>((rows + kEach - 1) / kEach);
}

}  // namespace tokensieve::kernels::cuda
