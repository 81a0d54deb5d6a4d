// Memory of the cards of this machine, on the CUDA runtime (linked statically: without a driver there are 0).
#include <cstdio>
#include <map>
#include <new>

#include "kernels/cuda/cross.h"
#include "kernels/cuda/devices.h"
#include "kernels/cuda/nvcc/queue.h"
#include "kernels/cuda/open_queues.h"

namespace tokensieve::kernels::cuda {

namespace {

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

// Blocks of whole slabs whose address the driver did not align: where each begins.
struct Shifted {
  std::mutex mutex;
  std::map<uint8_t*, void*> begin;
};
Shifted& shifted() noexcept {
  static Shifted all;
  return all;
}

void* take_shifted(uint8_t* data) noexcept {
  const std::lock_guard<std::mutex> lock(shifted().mutex);
  const auto found = shifted().begin.find(data);
  if (found == shifted().begin.end()) return data;
  void* const begin = found->second;
  shifted().begin.erase(found);
  return begin;
}

void release(int device, uint8_t* data) noexcept {
  open_queues().each([device](Queue& queue) {
    const std::lock_guard<std::mutex> lock(queue.mutex);
    if (queue.device == device && queue.recorder.on()) cudaSetDevice(device), queue.recorder.flush();
  });
  cudaFree(take_shifted(data));  // waits for the device
}

void* allocate_on_card(size_t bytes) noexcept {
  void* data = nullptr;
  if (cudaMalloc(&data, bytes) == cudaSuccess) return data;
  cudaGetLastError();
  return nullptr;
}

// Of its multiples of 2 MiB the driver aligns blocks by itself; where it does not, a larger one holds an aligned one.
uint8_t* allocate_own(int device, size_t bytes) noexcept {
  constexpr size_t kLarge = size_t{2} << 20;
  if (cudaSetDevice(device) != cudaSuccess) return nullptr;
  uint8_t* data = static_cast<uint8_t*>(allocate_on_card(bytes));
  if (data != nullptr && bytes >= kLarge && reinterpret_cast<uintptr_t>(data) % kLarge != 0) {
    cudaFree(data);
    void* const wide = allocate_on_card(bytes + kLarge);
    if (wide == nullptr) return nullptr;
    data = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(wide) + kLarge - 1) / kLarge * kLarge);
    try {
      const std::lock_guard<std::mutex> lock(shifted().mutex);
      shifted().begin[data] = wide;
    } catch (const std::bad_alloc&) {
      cudaFree(wide);
      return nullptr;
    }
  }
  if (data == nullptr) return nullptr;
  if (cudaMemset(data, 0, bytes) == cudaSuccess && cudaStreamSynchronize(nullptr) == cudaSuccess) return data;
  release(device, data);
  return nullptr;
}

// Copies and fills are no part of a step that is held back: what was handed over before them goes first.
struct Now {
  explicit Now(Queue* queue) noexcept : lock(queue->mutex) {
    cudaSetDevice(queue->device);
    queue->recorder.flush();
  }
  const std::lock_guard<std::mutex> lock;
};

void read(Queue* queue, void* to_host, const uint8_t* from, size_t bytes) noexcept {
  const Now now(queue);
  queue->note(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, queue->stream));
}
void write(Queue* queue, uint8_t* to, const void* from_host, size_t bytes) noexcept {  // pageable: copied at once
  const Now now(queue);
  queue->note(cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, queue->stream));
}
void clear(Queue* queue, uint8_t* data, size_t bytes) noexcept {
  const Now now(queue);
  queue->note(cudaMemsetAsync(data, 0, bytes, queue->stream));
}

void prefetch(Queue* queue, const uint8_t* data, size_t bytes) noexcept {
  cudaMemPrefetchAsync(data, bytes, cudaMemLocation{cudaMemLocationTypeDevice, queue->device}, 0, queue->stream);
  cudaGetLastError();
}

size_t free_bytes(int device) noexcept {
  size_t free = 0, total = 0;
  return cudaSetDevice(device) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess ? free : 0;
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
        items[i] = {i,    allocate, release, prefetch,   open_queue,   close_queue, begin, end,
                    send, fetch,    wait,    free_bytes, allocate_own, read,        write, clear};
    }
  };
  static const All all;
  return &all.items[device];
}

}  // namespace tokensieve::kernels::cuda
