// Queues and memory of the emulated devices (two of them). Launches wait until somebody waits for the queue: what is read
// too early is not there yet, and what was lent too briefly is gone.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"
#include "kernels/cuda/devices.h"

namespace tokensieve {

struct Queue {
  int device = 0;
  bool waits = false;  // work is done at once: of calls without a queue of their own
  std::mutex mutex;
  std::vector<std::function<void()>> work;
  std::vector<std::unique_ptr<uint8_t[]>> uploads;
  std::string error;

  void drain() noexcept {
    try {
      for (const std::function<void()>& one : work) one();
    } catch (const std::exception& e) {
      if (error.empty()) error = e.what();
    }
    work.clear();
  }
};

namespace kernels::cuda {

namespace {

// A call without a queue is one of a test or of the low-level API: what is wrong there must not stay unsaid.
Queue& own_queue() noexcept {
  static thread_local Queue queue;
  queue.waits = true;
  return queue;
}

// Queues with work of which a device's memory may be part.
struct Open {
  std::mutex mutex;
  std::vector<Queue*> queues;
};
Open& open() noexcept {
  static Open all;
  return all;
}

uint8_t* allocate(int, size_t bytes) noexcept {
  constexpr size_t kLarge = size_t{2} << 20;
  const size_t align = bytes >= kLarge ? kLarge : 64, size = (std::max(bytes, align) + align - 1) / align * align;
  uint8_t* const data = static_cast<uint8_t*>(std::aligned_alloc(align, size));
  if (data) std::memset(data, 0, size);
  return data;
}
void release(int device, uint8_t* data) noexcept {
  {
    const std::lock_guard<std::mutex> lock(open().mutex);
    for (Queue* queue : open().queues) {
      const std::lock_guard<std::mutex> own(queue->mutex);
      if (queue->device == device) queue->drain();
    }
  }
  std::free(data);
}
void prefetch(Queue*, const uint8_t*, size_t) noexcept {}
Queue* open_queue(int device) noexcept {
  Queue* const queue = new (std::nothrow) Queue;
  if (!queue) return nullptr;
  queue->device = device;
  const std::lock_guard<std::mutex> lock(open().mutex);
  open().queues.push_back(queue);
  return queue;
}
const char* wait(Queue* queue) noexcept {
  static thread_local std::string said;
  const std::lock_guard<std::mutex> lock(queue->mutex);
  queue->drain();
  queue->uploads.clear();
  if (queue->error.empty()) return nullptr;
  said.swap(queue->error);
  queue->error.clear();
  return said.c_str();
}
void close_queue(Queue* queue) noexcept {
  wait(queue);
  {
    const std::lock_guard<std::mutex> lock(open().mutex);
    std::vector<Queue*>& all = open().queues;
    all.erase(std::remove(all.begin(), all.end(), queue), all.end());
  }
  delete queue;
}
size_t free_bytes(int) noexcept { return size_t{1} << 30; }

}  // namespace

int count_devices() noexcept { return 2; }
Device device_info(int device) noexcept { return {device, "emulated", size_t{1} << 30, 8, 0}; }

const Memory* device_memory(int device) noexcept {
  static const Memory all[2] = {
      {0, allocate, release, prefetch, open_queue, close_queue, wait, free_bytes},
      {1, allocate, release, prefetch, open_queue, close_queue, wait, free_bytes},
  };
  return &all[device];
}

Stream stream_of(const Team& team) noexcept { return team.queue() ? team.queue() : &own_queue(); }

const void* upload_bytes(Stream stream, const void* host, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(stream->mutex);
  if (stream->waits && stream->uploads.size() > 64) stream->uploads.erase(stream->uploads.begin());
  stream->uploads.emplace_back(new uint8_t[bytes]);
  if (bytes > 0) std::memcpy(stream->uploads.back().get(), host, bytes);
  return stream->uploads.back().get();
}

void out_of_memory(Stream stream) noexcept { stream->error = "out of memory"; }

void launch(Stream stream, const char* name, dim3 grid, dim3 block, size_t bytes,
            std::function<void()> kernel) noexcept {
  const std::lock_guard<std::mutex> lock(stream->mutex);
  stream->work.emplace_back(
      [=] { simt::run(name, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, bytes, kernel); });
  if (!stream->waits) return;
  stream->drain();
  if (stream->error.empty()) return;
  std::fprintf(stderr, "%s\n", stream->error.c_str());  // only tests come here
  std::abort();
}

}  // namespace kernels::cuda
}  // namespace tokensieve
