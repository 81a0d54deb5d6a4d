// Queues and memory of the cards of this machine, on the CUDA runtime (linked statically: without a driver there are 0).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <vector>

#include "device.h"
#include "kernels/cuda/cross.h"
#include "kernels/cuda/devices.h"
#include "kernels/cuda/nvcc/queue.h"

namespace tokensieve {

namespace kernels::cuda {

namespace {

constexpr size_t kAlign = 256;

// Queues whose launches may still be written down when memory that they use goes.
struct Open {
  std::mutex mutex;
  std::vector<Queue*> queues;
};
Open& open() noexcept {
  static Open all;
  return all;
}

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
  {
    const std::lock_guard<std::mutex> lock(open().mutex);
    for (Queue* queue : open().queues) {
      const std::lock_guard<std::mutex> own(queue->mutex);
      if (queue->device == device && queue->recorder.on()) cudaSetDevice(device), queue->recorder.flush();
    }
  }
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

void close_queue(Queue* queue) noexcept {
  if (queue == nullptr) return;
  {
    const std::lock_guard<std::mutex> lock(open().mutex);
    std::vector<Queue*>& all = open().queues;
    for (size_t i = 0; i < all.size(); i++) {
      if (all[i] == queue) all.erase(all.begin() + static_cast<ptrdiff_t>(i));
    }
  }
  cudaSetDevice(queue->device);
  queue->recorder.close();
  if (queue->stream) cudaStreamSynchronize(queue->stream);
  for (int i = 0; i < queue->large_count; i++) cudaFree(queue->large[i]);
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
  try {
    const std::lock_guard<std::mutex> lock(open().mutex);
    open().queues.push_back(queue);
  } catch (const std::bad_alloc&) {
    queue->note(cudaErrorMemoryAllocation);
  }
  if (queue->error == cudaSuccess) return queue;
  close_queue(queue);
  return nullptr;
}

void drain(Queue* queue) noexcept {
  queue->recorder.flush();
  queue->note(cudaStreamSynchronize(queue->stream));
  for (int i = 0; i < queue->large_count; i++) cudaFree(queue->large[i]);
  queue->large_count = 0;
  queue->fetched_read = true;
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
  queue->recorder.flush();
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
        items[i] = {i,    allocate, release, prefetch,   open_queue,   close_queue, begin, end,
                    send, fetch,    wait,    free_bytes, allocate_own, read,        write, clear};
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

}  // namespace kernels::cuda
}  // namespace tokensieve
