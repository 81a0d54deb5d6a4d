// What a card could do at best: peak and read_memory of kernels/limits.h on one card, by all of its multiprocessors.
// They wait for what they measure, in a queue of their own.
#pragma once

#include "kernels/limits.h"

namespace tokensieve::kernels::cuda {

double peak_of(int device, Kind kind, int rounds) noexcept;
uint64_t read_memory_of(int device, const uint8_t* data, size_t bytes) noexcept;  // of the device's memory

}  // namespace tokensieve::kernels::cuda
