// Queues of cards: what is handed to them, and what launches read of the host's.
#include "kernels/cuda/nvcc/queue.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "device.h"
#include "kernels/cuda/cross.h"
#include "kernels/cuda/open_queues.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr size_t kAlign = 256;

// Of larger uploads the oldest.
void free_uploads(Queue* queue, int n) noexcept {
  for (int i = 0; i < n; i++) cudaFree(queue->large[i]);
  std::copy(queue->large + n, queue->large + queue->large_count, queue->large);
  queue->large_count -= n;
}

}  // namespace

void close_queue(Queue* queue) noexcept {
  if (queue == nullptr) return;
  open_queues().remove(queue);
  cudaSetDevice(queue->device);
  queue->recorder.close();
  if (queue->stream) cudaStreamSynchronize(queue->stream);
  free_uploads(queue, queue->large_count);
  for (cudaEvent_t event : queue->read) {
    if (event) cudaEventDestroy(event);
  }
  if (queue->copied) cudaEventDestroy(queue->copied);
  cudaFree(queue->ring);
  cudaFreeHost(queue->host);
  cudaFreeHost(queue->fetched);
  if (queue->stream) cudaStreamDestroy(queue->stream);
  delete queue;
}

Queue* open_queue(int device) noexcept {
  Queue* const queue = new (std::nothrow) Queue;
  if (queue == nullptr) return nullptr;
  queue->device = device;
  constexpr size_t all = Queue::kBlock + kStepBlock;
  queue->note(cudaSetDevice(device));
  queue->note(cudaStreamCreateWithFlags(&queue->stream, cudaStreamNonBlocking));
  queue->note(cudaHostAlloc(reinterpret_cast<void**>(&queue->host), all, cudaHostAllocDefault));
  queue->note(cudaMalloc(reinterpret_cast<void**>(&queue->ring), all));
  for (cudaEvent_t& event : queue->read) queue->note(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  queue->note(cudaEventCreateWithFlags(&queue->copied, cudaEventDisableTiming));
  if (!open_queues().add(queue)) queue->note(cudaErrorMemoryAllocation);
  if (queue->error == cudaSuccess) return queue;
  close_queue(queue);
  return nullptr;
}

void begin(Queue* queue) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  cudaSetDevice(queue->device);
  queue->recorder.begin();
}

void end(Queue* queue) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  cudaSetDevice(queue->device);
  queue->recorder.end();
}

const char* wait(Queue* queue) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  cudaSetDevice(queue->device);
  queue->recorder.flush();
  queue->note(cudaStreamSynchronize(queue->stream));
  free_uploads(queue, queue->large_count);
  queue->fetched_read = true;
  const cudaError_t error = queue->error;
  queue->error = cudaSuccess;
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

namespace {

Queue* own_queue() noexcept {
  struct Owner {
    Queue* queue = open_queue(0);
    ~Owner() { close_queue(queue); }
  };
  static thread_local Owner owner;
  if (owner.queue) owner.queue->waits = true;
  return owner.queue;
}

// The ring goes round: what still reads the next part must have run.
void next_part(Queue* queue) noexcept {
  queue->recorder.flush();
  const int before = (queue->part + Queue::kParts - 1) % Queue::kParts;
  queue->note(cudaEventRecord(queue->read[before], queue->stream));
  queue->part = (queue->part + 1) % Queue::kParts;
  queue->at = 0;
  queue->note(cudaEventSynchronize(queue->read[queue->part]));
}

// Of those that are kept until the next wait the newer half may be what a launcher, on this thread or another, has uploaded for
// a launch that is still to come.
const void* upload_large(Queue* queue, const void* host, size_t bytes) noexcept {
  void* data = nullptr;
  if (queue->large_count == Queue::kLarge) {
    queue->recorder.flush();
    queue->note(cudaStreamSynchronize(queue->stream));
    free_uploads(queue, Queue::kLarge / 2);
  }
  queue->note(cudaMalloc(&data, bytes));
  if (data == nullptr) return nullptr;
  queue->large[queue->large_count++] = data;
  queue->note(cudaMemcpyAsync(data, host, bytes, cudaMemcpyHostToDevice, queue->stream));  // pageable: copied at once
  return data;
}

}  // namespace

Stream stream_of(const Team& team) noexcept {
  Queue* const queue = team.queue() ? team.queue() : own_queue();
  if (queue) cudaSetDevice(queue->device);
  return queue;
}

void make_current(Queue* queue) noexcept { cudaSetDevice(queue->device); }

void* host_bytes(Queue* queue, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  if (queue->fetched == nullptr &&
      cudaHostAlloc(reinterpret_cast<void**>(&queue->fetched), Queue::kFetched, cudaHostAllocDefault) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  if (queue->fetched_read) queue->fetched_at = 0, queue->fetched_read = false;
  const size_t size = (bytes + kAlign - 1) / kAlign * kAlign;
  if (queue->fetched_at + size > Queue::kFetched) return nullptr;
  queue->fetched_at += size;
  return queue->fetched + queue->fetched_at - size;
}

const Recorder& recorder_of(Stream queue) noexcept { return queue->recorder; }

void out_of_memory(Stream queue) noexcept { queue->note(cudaErrorMemoryAllocation); }

void hand_over(Stream queue, const Launch& launch, const Arguments& arguments) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  if (queue->recorder.add(launch, arguments)) return;
  const dim3 grid(launch.grid.x, launch.grid.y, launch.grid.z), block(launch.block.x, launch.block.y, launch.block.z);
  void** const values = const_cast<void**>(arguments.values);
  queue->note(cudaLaunchKernel(launch.kernel, grid, block, values, launch.shared, queue->stream));
  if (queue->waits) queue->note(cudaStreamSynchronize(queue->stream));
}

const void* upload_bytes(Stream queue, const void* host, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  if (const void* const there = queue->recorder.upload(host, bytes)) return there;
  const size_t size = (bytes + kAlign - 1) / kAlign * kAlign;
  if (size > Queue::kMost) return upload_large(queue, host, bytes);
  if (queue->at + size > Queue::kPart) next_part(queue);
  const size_t at = static_cast<size_t>(queue->part) * Queue::kPart + queue->at;
  queue->at += size;
  std::memcpy(queue->host + at, host, bytes);
  queue->note(cudaMemcpyAsync(queue->ring + at, queue->host + at, bytes, cudaMemcpyHostToDevice, queue->stream));
  return queue->ring + at;
}

}  // namespace tokensieve::kernels::cuda
