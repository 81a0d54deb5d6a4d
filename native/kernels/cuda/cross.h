// What the queues of either kind have in common: numbers that cross in the order of their work (core/memory.h).
#pragma once

#include "device.h"

namespace tokensieve::kernels::cuda {

void send(Queue* queue, const float* from, float* to, size_t n) noexcept;
const float* fetch(Queue* queue, const float* from, size_t n) noexcept;

// Of the queues themselves: the calling thread's work goes to this one's device; memory of the host that kernels write
// to, kept as what fetch returns, null where there is none.
void make_current(Queue* queue) noexcept;
void* host_bytes(Queue* queue, size_t bytes) noexcept;

}  // namespace tokensieve::kernels::cuda
