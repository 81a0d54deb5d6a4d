// Queues and memory of the emulated devices (two of them). Launches wait until somebody waits for the queue: what is read
// too early is not there yet, and what was lent too briefly is gone.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"
#include "kernels/cuda/cross.h"
#include "kernels/cuda/devices.h"
#include "kernels/cuda/open_queues.h"

namespace tokensieve {

using kernels::cuda::Driver;
using kernels::cuda::kMostArguments;
using kernels::cuda::kStepBlock;
using kernels::cuda::Launch;
using kernels::cuda::Launches;

namespace {

// Memory of the device's own may be touched while a queue's work runs, and at no other time: a host that reads or writes
// a page itself ends there.
struct Own {
  std::mutex mutex;
  std::map<uint8_t*, size_t> blocks;
  int running = 0;

  void protect(int how) noexcept {
    for (const auto& [data, bytes] : blocks) mprotect(data, bytes, how);
  }
};
Own& own() noexcept {
  static Own all;
  return all;
}
struct Running {
  Running() noexcept {
    const std::lock_guard<std::mutex> lock(own().mutex);
    if (own().running++ == 0) own().protect(PROT_READ | PROT_WRITE);
  }
  ~Running() {
    const std::lock_guard<std::mutex> lock(own().mutex);
    if (--own().running == 0) own().protect(PROT_NONE);
  }
};

}  // namespace

struct Queue final : Driver {
  int device = 0;
  bool waits = false;  // work is done at once: of calls without a queue of their own
  std::mutex mutex;
  std::vector<std::function<void()>> work;
  std::vector<std::unique_ptr<uint8_t[]>> uploads;
  std::string error;
  std::vector<std::unique_ptr<uint8_t[]>> fetched;
  bool fetched_read = false;
  // The block of a step on either side: copies are done late too, so that a list that is overwritten early is found.
  std::vector<uint8_t> near = std::vector<uint8_t>(kStepBlock), there = std::vector<uint8_t>(kStepBlock);
  size_t filled = 0;
  kernels::cuda::Recorder recorder{*this};

  ~Queue() override { recorder.close(); }

  void drain() noexcept {
    recorder.flush();
    run_all();
  }
  void run_all() noexcept {
    if (work.empty()) return;
    const Running running;
    try {
      for (const std::function<void()>& one : work) one();
    } catch (const std::exception& e) {
      if (error.empty()) error = e.what();
    }
    work.clear();
  }
  static void run(const Launches& all, size_t i) {
    const Launch& launch = all[i];
    const uint8_t* values[kMostArguments];
    all.values(i, values);
    simt::run(launch.name, {launch.grid.x, launch.grid.y, launch.grid.z},
              {launch.block.x, launch.block.y, launch.block.z}, launch.shared,
              [&] { launch.call(launch.kernel, values); });
  }

  // A graph is a list of launches of its own: what was not set anew runs as it was.
  void launch(const Launches& all, size_t i) noexcept override {
    const auto copy = std::make_shared<const Launches>(all);
    work.emplace_back([copy, i] { run(*copy, i); });
  }
  void* make_graph(const Launches& all) noexcept override { return new (std::nothrow) Launches(all); }
  bool set_launch(void* graph, const Launches& all, size_t i) noexcept override {
    static_cast<Launches*>(graph)->set(i, all);
    return true;
  }
  void run_graph(void* graph) noexcept override {
    const auto copy = std::make_shared<const Launches>(*static_cast<const Launches*>(graph));
    work.emplace_back([copy] {
      for (size_t i = 0; i < copy->size(); i++) run(*copy, i);
    });
  }
  void drop_graph(void* graph) noexcept override { delete static_cast<Launches*>(graph); }
  uint8_t* block() noexcept override { return near.data(); }
  const uint8_t* block_there() noexcept override { return there.data(); }
  void copy_block(size_t from, size_t to) noexcept override {
    filled = std::max(filled, to);
    work.emplace_back([this, from, to] { std::memcpy(there.data() + from, near.data() + from, to - from); });
  }
  void wait_for_block() noexcept override {
    run_all();
    std::memset(there.data(), 0xcb, filled);  // lists of the step before are gone
    filled = 0;
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

uint8_t* allocate(int, size_t bytes) noexcept {
  constexpr size_t kLarge = size_t{2} << 20;
  const size_t align = bytes >= kLarge ? kLarge : 64, size = (std::max(bytes, align) + align - 1) / align * align;
  uint8_t* const data = static_cast<uint8_t*>(std::aligned_alloc(align, size));
  if (data) std::memset(data, 0, size);
  return data;
}
void forget_own(uint8_t* data) noexcept {
  Own& all = own();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.blocks.find(data);
  if (found == all.blocks.end()) return;
  mprotect(data, found->second, PROT_READ | PROT_WRITE);
  all.blocks.erase(found);
}
void release(int device, uint8_t* data) noexcept {
  open_queues().each([device](Queue& queue) {
    const std::lock_guard<std::mutex> lock(queue.mutex);
    if (queue.device == device) queue.drain();
  });
  forget_own(data);
  std::free(data);
}
void prefetch(Queue*, const uint8_t*, size_t) noexcept {}

uint8_t* allocate_own(int, size_t bytes) noexcept {
  constexpr size_t kLarge = size_t{2} << 20;
  const size_t size = (bytes + kLarge - 1) / kLarge * kLarge;
  void* const data = std::aligned_alloc(kLarge, size);
  if (!data) return nullptr;
  std::memset(data, 0, size);
  Own& all = own();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.blocks[static_cast<uint8_t*>(data)] = size;
  if (all.running == 0) mprotect(data, size, PROT_NONE);
  return static_cast<uint8_t*>(data);
}
Queue* open_queue(int device) noexcept {
  Queue* const queue = new (std::nothrow) Queue;
  if (!queue) return nullptr;
  queue->device = device;
  if (open_queues().add(queue)) return queue;
  delete queue;
  return nullptr;
}
void begin(Queue* queue) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  queue->recorder.begin();
}
void end(Queue* queue) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  queue->recorder.end();
}
const char* wait(Queue* queue) noexcept {
  static thread_local std::string said;
  const std::lock_guard<std::mutex> lock(queue->mutex);
  queue->drain();
  queue->uploads.clear();
  queue->fetched_read = true;
  if (queue->error.empty()) return nullptr;
  said.swap(queue->error);
  queue->error.clear();
  return said.c_str();
}
void close_queue(Queue* queue) noexcept {
  wait(queue);
  open_queues().remove(queue);
  delete queue;
}
void read(Queue* queue, void* to_host, const uint8_t* from, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  queue->recorder.flush();
  queue->work.emplace_back([=] { std::memcpy(to_host, from, bytes); });
}
void write(Queue* queue, uint8_t* to, const void* from_host, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  queue->recorder.flush();
  const auto copy = std::make_shared<std::vector<uint8_t>>(static_cast<const uint8_t*>(from_host),
                                                           static_cast<const uint8_t*>(from_host) + bytes);
  queue->work.emplace_back([=] { std::memcpy(to, copy->data(), copy->size()); });
}
void clear(Queue* queue, uint8_t* data, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  queue->recorder.flush();
  queue->work.emplace_back([=] { std::memset(data, 0, bytes); });
}
size_t free_bytes(int) noexcept { return size_t{1} << 30; }

}  // namespace

int count_devices() noexcept { return 2; }
Device device_info(int device) noexcept { return {device, "emulated", size_t{1} << 30, 8, 0}; }

const Memory* device_memory(int device) noexcept {
  static const Memory all[2] = {
      {0, allocate, release, prefetch, open_queue, close_queue, begin, end, send, fetch, wait, free_bytes, allocate_own,
       read, write, clear},
      {1, allocate, release, prefetch, open_queue, close_queue, begin, end, send, fetch, wait, free_bytes, allocate_own,
       read, write, clear},
  };
  return &all[device];
}

Stream stream_of(const Team& team) noexcept { return team.queue() ? team.queue() : &own_queue(); }

void make_current(Queue*) noexcept {}

void* host_bytes(Queue* queue, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(queue->mutex);
  if (queue->fetched_read) queue->fetched.clear(), queue->fetched_read = false;
  queue->fetched.emplace_back(new uint8_t[bytes]);
  std::memset(queue->fetched.back().get(), 0xcb, bytes);
  return queue->fetched.back().get();
}

const Recorder& recorder_of(Stream stream) noexcept { return stream->recorder; }

const void* upload_bytes(Stream stream, const void* host, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(stream->mutex);
  if (const void* const there = stream->recorder.upload(host, bytes)) return there;
  if (stream->waits && stream->uploads.size() > 64) stream->uploads.erase(stream->uploads.begin());
  stream->uploads.emplace_back(new uint8_t[bytes]);
  if (bytes > 0) std::memcpy(stream->uploads.back().get(), host, bytes);
  return stream->uploads.back().get();
}

void out_of_memory(Stream stream) noexcept { stream->error = "out of memory"; }

void hand_over(Stream stream, const Launch& launch, const Arguments& arguments) noexcept {
  const std::lock_guard<std::mutex> lock(stream->mutex);
  if (stream->recorder.add(launch, arguments)) return;
  Launches one;
  one.add(launch, arguments);
  stream->launch(one, 0);
  if (!stream->waits) return;
  stream->drain();
  if (stream->error.empty()) return;
  std::fprintf(stderr, "%s\n", stream->error.c_str());  // only tests come here
  std::abort();
}

}  // namespace kernels::cuda
}  // namespace tokensieve
