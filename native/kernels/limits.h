// Kernel limits: what this machine could do at best with the instructions that this backend's other kernels use.
//
//   peak:         independent multiply-adds of ones in registers, `rounds` times a fixed number of them. Returns how many
//                 there were: the sum of the accumulators, so every one of them has been done. 0 where no kernel of the
//                 backend has such an instruction (bf16). 1 <= rounds <= 2^20.
//   read_memory:  the OR of the 64-bit words of `bytes` (a multiple of 256) at a 64-byte aligned address: a plain read.
//
// One thread each; whoever times them starts as many as there are (engine/limits.h). A card: all of it, on own memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matmul.h"

namespace tokensieve::kernels {

using Peak = double (*)(Kind kind, int rounds) noexcept;
using ReadMemory = uint64_t (*)(const uint8_t* data, size_t bytes) noexcept;

}  // namespace tokensieve::kernels
