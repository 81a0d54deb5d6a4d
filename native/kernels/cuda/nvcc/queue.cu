// Queues and memory of the cards of this machine, on the CUDA runtime (linked statically: without a driver there are 0).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "device.h"
#include "kernels/cuda/devices.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr size_t kAlign = 256;

uint8_t* allocate(int device, size_t bytes) noexcept {
  void* data = nullptr;
  const size_t size = bytes > 0 ? bytes : 1;
  if (cudaSetDevice(device) != cudaSuccess || cudaMallocManaged(&data, size) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  cudaMemLocation place{cudaMemLocationTypeDevice, device};
  cudaMemAdvise(data, size, cudaMemAdviseSetPreferredLocation, place);  // a hint: not every system takes it
  cudaGetLastError();
  // Queues do not wait for the default stream, which this runs in.
  if (cudaMemset(data, 0, size) == cudaSuccess && cudaStreamSynchronize(nullptr) == cudaSuccess)
    return static_cast<uint8_t*>(data);
  cudaFree(data);
  return nullptr;
}

void release(int, uint8_t* data) noexcept { cudaFree(data); }

void prefetch(Queue* queue, const uint8_t* data, size_t bytes) noexcept {
  cudaMemPrefetchAsync(data, bytes, cudaMemLocation{cudaMemLocationTypeDevice, queue->device}, 0, queue->stream);
  cudaGetLastError();
}

void close_queue(Queue* queue) noexcept {
  if (queue == nullptr) return;
  cudaSetDevice(queue->device);
  if (queue->stream) cudaStreamSynchronize(queue->stream);
  for (int i = 0; i < queue->large_count; i++) cudaFree(queue->large[i]);
  for (cudaEvent_t event : queue->read) {
    if (event) cudaEventDestroy(event);
  }
  cudaFree(queue->ring);
  cudaFreeHost(queue->host);
  if (queue->stream) cudaStreamDestroy(queue->stream);
  delete queue;
}

Queue* open_queue(int device) noexcept {
  Queue* const queue = new (std::nothrow) Queue;
  if (queue == nullptr) return nullptr;
  queue->device = device;
  constexpr size_t all = Queue::kParts * Queue::kPart;
  queue->note(cudaSetDevice(device));
  queue->note(cudaStreamCreateWithFlags(&queue->stream, cudaStreamNonBlocking));
  queue->note(cudaHostAlloc(reinterpret_cast<void**>(&queue->host), all, cudaHostAllocDefault));
  queue->note(cudaMalloc(reinterpret_cast<void**>(&queue->ring), all));
  for (cudaEvent_t& event : queue->read) queue->note(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  if (queue->error == cudaSuccess) return queue;
  close_queue(queue);
  return nullptr;
}

void drain(Queue* queue) noexcept {
  queue->note(cudaStreamSynchronize(queue->stream));
  for (int i = 0; i < queue->large_count; i++) cudaFree(queue->large[i]);
  queue->large_count = 0;
}

const char* wait(Queue* queue) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  drain(queue);
  const cudaError_t error = queue->error;
  queue->error = cudaSuccess;
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

size_t free_bytes(int device) noexcept {
  size_t free = 0, total = 0;
  return cudaSetDevice(device) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess ? free : 0;
}

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
  const int before = (queue->part + Queue::kParts - 1) % Queue::kParts;
  queue->note(cudaEventRecord(queue->read[before], queue->stream));
  queue->part = (queue->part + 1) % Queue::kParts;
  queue->at = 0;
  queue->note(cudaEventSynchronize(queue->read[queue->part]));
}

const void* upload_large(Queue* queue, const void* host, size_t bytes) noexcept {
  void* data = nullptr;
  if (queue->large_count == static_cast<int>(sizeof queue->large / sizeof queue->large[0])) drain(queue);
  queue->note(cudaMalloc(&data, bytes));
  if (data == nullptr) return nullptr;
  queue->large[queue->large_count++] = data;
  queue->note(cudaMemcpyAsync(data, host, bytes, cudaMemcpyHostToDevice, queue->stream));  // pageable: copied at once
  return data;
}

}  // namespace

int count_devices() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

Device device_info(int device) noexcept {
  static thread_local char name[256];
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) return {device, "", 0, 0, 0};
  std::snprintf(name, sizeof name, "%s", properties.name);
  return {device, name, properties.totalGlobalMem, properties.multiProcessorCount,
          properties.major * 10 + properties.minor};
}

const Memory* device_memory(int device) noexcept {
  struct All {
    Memory items[16];
    All() noexcept {
      for (int i = 0; i < 16; i++)
        items[i] = {i, allocate, release, prefetch, open_queue, close_queue, wait, free_bytes};
    }
  };
  static const All all;
  return &all.items[device];
}

Stream stream_of(const Team& team) noexcept {
  Queue* const queue = team.queue() ? team.queue() : own_queue();
  if (queue) cudaSetDevice(queue->device);
  return queue;
}

const void* upload_bytes(Stream queue, const void* host, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
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
