// The queue of a card: queue.cu, graph.cu and memory.cu share it.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "kernels/cuda/recording.h"

namespace tokensieve {

// The stream of one device, and the ring through which descriptors reach it. Any thread may hand work to it.
struct Queue final : kernels::cuda::Driver {
  using Launches = kernels::cuda::Launches;
  static constexpr int kParts = 4;
  static constexpr size_t kPart = size_t{4} << 20, kMost = kPart / 8;  // of one upload
  static constexpr size_t kBlock = kParts * kPart;  // where the block of a step begins, behind the ring
  static constexpr size_t kFetched = size_t{8} << 20;
  int device = 0;
  cudaStream_t stream = nullptr;
  cudaError_t error = cudaSuccess;  // the first one since the last wait
  bool waits = false;  // after every launch: of calls without a queue of their own
  uint8_t* host = nullptr;  // pinned: [kParts][kPart], then the block of a step
  uint8_t* ring = nullptr;  // of the device, the same
  // All that reads a part was launched before: recorded a part later, since a launch may read the end of one and the
  // begin of the next.
  cudaEvent_t read[kParts] = {};
  cudaEvent_t copied = nullptr;  // the block of the step before
  std::mutex mutex;
  int part = 0;
  size_t at = 0;  // in it
  static constexpr int kLarge = 64;
  void* large[kLarge] = {};  // bigger uploads, until the next wait: the oldest first
  int large_count = 0;
  uint8_t* fetched = nullptr;  // pinned [kFetched], made when first asked for
  size_t fetched_at = 0;
  bool fetched_read = false;  // waited for: the next fetch begins anew
  kernels::cuda::Recorder recorder{*this};

  void note(cudaError_t result) noexcept {
    if (error == cudaSuccess) error = result;
  }

  uint8_t* block() noexcept override { return host + kBlock; }
  const uint8_t* block_there() noexcept override { return ring + kBlock; }
  void copy_block(size_t from, size_t to) noexcept override;
  void wait_for_block() noexcept override { note(cudaEventSynchronize(copied)); }
  void launch(const Launches& all, size_t i) noexcept override;
  void* make_graph(const Launches& all) noexcept override;
  bool set_launch(void* graph, const Launches& all, size_t i) noexcept override;
  void run_graph(void* graph) noexcept override;
  void drop_graph(void* graph) noexcept override;
};

namespace kernels::cuda {

// As Memory says (core/memory.h).
Queue* open_queue(int device) noexcept;
void close_queue(Queue* queue) noexcept;
void begin(Queue* queue) noexcept;
void end(Queue* queue) noexcept;
const char* wait(Queue* queue) noexcept;

}  // namespace kernels::cuda
}  // namespace tokensieve
