// Numbers that cross between host and device in the order of a queue's work: kernels do it, so that they are launches as
// any other. Bound by latency: some KB each, or a row of logits, which at 20 GB/s takes 50 us a megabyte.
#include "kernels/cuda/cross.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kThreads = 256, kMostBlocks = 64;

}  // namespace

__global__ void copy_numbers(const float* from, float* to, size_t n) {
  for (size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x; i < n; i += kThreads * gridDim.x) {
    to[i] = from[i];
  }
}

namespace {

void copy(Stream stream, const float* from, float* to, size_t n) noexcept {
  const size_t blocks = (n + kThreads - 1) / kThreads;
  LAUNCH(copy_numbers, static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks), kThreads, 0, stream, from,
         to, n);
}

}  // namespace

void send(Queue* queue, const float* from, float* to, size_t n) noexcept {
  if (n == 0) return;
  make_current(queue);
  const void* const there = upload_bytes(queue, from, n * sizeof(float));
  if (there) copy(queue, static_cast<const float*>(there), to, n);
}

const float* fetch(Queue* queue, const float* from, size_t n) noexcept {
  make_current(queue);
  float* const to = static_cast<float*>(host_bytes(queue, n * sizeof(float)));
  if (to == nullptr) return from;
  if (n > 0) copy(queue, from, to, n);
  return to;
}

}  // namespace tokensieve::kernels::cuda
