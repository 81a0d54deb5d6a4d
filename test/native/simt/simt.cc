#include "simt.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "device.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define TS_ASAN 1
#endif

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace simt {

namespace {

constexpr size_t kStack = size_t{256} << 10;
constexpr int kWarp = 32, kPoison = 0xcb;

struct Copy {
  void* to;
  const void* from;
  int bytes, room;
};

enum class Wait : uint8_t { none, block, warp, ended };

struct Fiber {
  ucontext_t context;
  void* fake_stack = nullptr;
  uint3 index;
  int number, meetings = 0, barriers = 0;
  Wait wait = Wait::none;
  std::vector<std::vector<Copy>> copies;  // groups, the newest one open
};

struct Warp {
  uint8_t slots[2][kWarp][kSlot];
  int arrived = 0, over = 0, live = kWarp;
  const char* what = nullptr;
};

// The threads of the block that runs.
struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::unique_ptr<uint8_t[]> shared;
  const std::function<void()>* kernel = nullptr;
  const char* name = "";
  int live = 0, arrived = 0, over = 0, votes[2] = {};
  ucontext_t scheduler;
  void* scheduler_fake = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_size = 0;
  std::string error;
};

thread_local Block* block = nullptr;
thread_local Fiber* self = nullptr;
thread_local bool chosen = false;
thread_local Schedule schedule_now = Schedule::fair;

Schedule schedule() {
  if (chosen) return schedule_now;
  const char* const name = std::getenv("TOKENSIEVE_SCHEDULE");
  const std::string asked = name ? name : "fair";
  return asked == "greedy" ? Schedule::greedy : asked == "backwards" ? Schedule::backwards : Schedule::fair;
}

// Stacks are kept for the life of the thread: a kernel's blocks are many and alike.
struct Stacks {
  uint8_t* base = nullptr;
  size_t count = 0;
  ~Stacks() {
    if (base) munmap(base, count * kStack);
  }
  __attribute__((noinline)) uint8_t* need(size_t n) {
    if (n <= count) return base;
    if (base) munmap(base, count * kStack);
    void* const got =
        mmap(nullptr, n * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) throw std::bad_alloc();
    base = static_cast<uint8_t*>(got), count = n;
    return base;
  }
};
thread_local Stacks stacks;

void to_scheduler(bool ending) {
#ifdef TS_ASAN
  __sanitizer_start_switch_fiber(ending ? nullptr : &self->fake_stack, block->scheduler_stack, block->scheduler_size);
#endif
  Fiber* const own = self;
  swapcontext(&own->context, &block->scheduler);
#ifdef TS_ASAN
  __sanitizer_finish_switch_fiber(own->fake_stack, nullptr, nullptr);
#endif
  (void)ending;
}

void fiber_main() {
#ifdef TS_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &block->scheduler_stack, &block->scheduler_size);
#endif
  try {
    (*block->kernel)();
    wait_copies(0);
  } catch (const std::exception& e) {
    if (block->error.empty()) block->error = e.what();
  }
  Fiber& own = *self;
  own.wait = Wait::ended;
  block->live--;
  block->warps[static_cast<size_t>(own.number / kWarp)].live--;
  to_scheduler(true);
}

void resume(Fiber& fiber, size_t number) {
  self = &fiber;
  threadIdx = fiber.index;
#ifdef TS_ASAN
  __sanitizer_start_switch_fiber(&block->scheduler_fake, stacks.base + number * kStack, kStack);
#endif
  swapcontext(&block->scheduler, &fiber.context);
#ifdef TS_ASAN
  __sanitizer_finish_switch_fiber(block->scheduler_fake, nullptr, nullptr);
#endif
  (void)number;
}

bool runnable(const Fiber& fiber) {
  switch (fiber.wait) {
    case Wait::none: return true;
    case Wait::block:  // threads that have ended do not count
      if (block->arrived > 0 && block->arrived == block->live) block->arrived = 0, block->over++;
      return block->over > fiber.barriers;
    case Wait::warp: return block->warps[static_cast<size_t>(fiber.number / kWarp)].over > fiber.meetings;
    case Wait::ended: return false;
  }
  return false;
}

bool step(size_t number) {
  Fiber& fiber = block->fibers[number];
  if (!runnable(fiber)) return false;
  resume(fiber, number);
  if (!block->error.empty()) throw std::runtime_error(std::string("simt: ") + block->name + ": " + block->error);
  return true;
}

bool pass_fair() {
  bool moved = false;
  for (size_t i = 0; i < block->fibers.size(); i++) moved = step(i) || moved;
  return moved;
}

bool pass_greedy(bool backwards) {
  bool moved = false;
  const size_t n = block->fibers.size(), warps = block->warps.size();
  for (size_t k = 0; k < warps; k++) {
    const size_t warp = backwards ? warps - 1 - k : k, first = warp * kWarp, end = std::min(n, first + kWarp);
    for (bool more = true; more;) {
      more = false;
      for (size_t i = first; i < end; i++) more = step(backwards ? first + end - 1 - i : i) || more;
      moved = moved || more;
    }
  }
  return moved;
}

void begin_block(Shape shape, size_t shared_bytes) {
  const size_t n = size_t{shape.x} * shape.y * shape.z;
  uint8_t* const base = stacks.need(n);
  block->fibers = std::vector<Fiber>(n);
  block->warps = std::vector<Warp>((n + kWarp - 1) / kWarp);
  block->warps.back().live = static_cast<int>(n - (block->warps.size() - 1) * kWarp);
  block->shared.reset(new uint8_t[shared_bytes]);
  std::memset(block->shared.get(), kPoison, shared_bytes);
  block->live = static_cast<int>(n), block->arrived = block->over = 0;
  for (size_t i = 0; i < n; i++) {
    Fiber& fiber = block->fibers[i];
    fiber.number = static_cast<int>(i);
    const unsigned number = static_cast<unsigned>(i);
    fiber.index = {number % shape.x, number / shape.x % shape.y, number / shape.x / shape.y};
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = base + i * kStack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
}

std::string where_all_wait() {
  std::string text = "threads wait for each other at different places:";
  for (const Fiber& fiber : block->fibers) {
    if (fiber.wait == Wait::ended) continue;
    text += " " + std::to_string(fiber.number) + " at ";
    text += fiber.wait == Wait::block ? "__syncthreads" : block->warps[static_cast<size_t>(fiber.number / kWarp)].what;
    if (text.size() > 300) break;
  }
  return text;
}

}  // namespace

void set_schedule(Schedule schedule) noexcept { schedule_now = schedule, chosen = true; }

void each_schedule(const std::function<void()>& body) {
  if (std::getenv("TOKENSIEVE_SCHEDULE")) return body();
  for (const Schedule one : {Schedule::fair, Schedule::greedy, Schedule::backwards}) {
    set_schedule(one);
    body();
  }
  chosen = false;
}

int lane() noexcept { return self->number % kWarp; }
void* shared_memory() noexcept { return block->shared.get(); }

int block_barrier(int vote) {
  Fiber& own = *self;
  int& votes = block->votes[own.barriers & 1];
  if (block->arrived == 0) votes = 0;
  votes += vote;
  block->arrived++;
  own.wait = Wait::block;
  if (block->arrived == block->live) {
    block->arrived = 0, block->over++;
  } else {
    to_scheduler(false);
  }
  own.wait = Wait::none;
  return block->votes[own.barriers++ & 1];
}

const uint8_t* meet(const char* what, unsigned mask, const void* value, size_t bytes) {
  Fiber& own = *self;
  Warp& warp = block->warps[static_cast<size_t>(own.number / kWarp)];
  if (mask != 0xffffffffu) throw std::runtime_error(std::string(what) + " expects the mask of a whole warp");
  if (warp.live != kWarp)
    throw std::runtime_error(std::string(what) + " in a warp of which threads have ended or never were");
  if (warp.arrived > 0 && std::strcmp(warp.what, what) != 0)
    throw std::runtime_error(std::string("a warp meets at ") + what + " and at " + warp.what);
  uint8_t* const all = warp.slots[own.meetings & 1][0];
  if (bytes > 0) std::memcpy(all + lane() * kSlot, value, bytes);
  warp.what = what;
  own.wait = Wait::warp;
  if (++warp.arrived == kWarp) {
    warp.arrived = 0, warp.over++;
  } else {
    to_scheduler(false);
  }
  own.wait = Wait::none;
  own.meetings++;
  return all;
}

void copy_later(void* to, const void* from, int bytes, int room) {
  if (self->copies.empty()) self->copies.emplace_back();
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0)
    throw std::runtime_error("copy_async_16 expects addresses at multiples of 16");
  self->copies.back().push_back({to, from, bytes, room});
}

void commit_copies() {
  if (self->copies.empty()) self->copies.emplace_back();
  self->copies.emplace_back();
}

void wait_copies(int left) {
  std::vector<std::vector<Copy>>& groups = self->copies;
  if (groups.empty()) return;
  const int closed = static_cast<int>(groups.size()) - 1, done = std::max(0, closed - left);
  for (int i = 0; i < done; i++) {
    for (const Copy& copy : groups[static_cast<size_t>(i)]) {
      std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
      std::memset(static_cast<uint8_t*>(copy.to) + copy.bytes, 0, static_cast<size_t>(copy.room - copy.bytes));
    }
  }
  groups.erase(groups.begin(), groups.begin() + done);
}

namespace {

thread_local bool products_wrong = false;

// Whether the kernel is broken and does nothing.
bool broken(const char* name) {
  const char* const fault = std::getenv("TOKENSIEVE_FAULT");
  products_wrong = fault && std::strcmp(fault, "mma") == 0;
  if (fault == nullptr || *fault == 0 || products_wrong) return false;
  if (std::strstr(name, fault + (*fault == '!')) == nullptr) return false;
  if (*fault == '!') throw std::runtime_error(std::string("simt: ") + name + " was told to fail");
  return true;
}

}  // namespace

bool wrong_products() noexcept { return products_wrong; }

void run(const char* name, Shape grid, Shape shape, size_t shared_bytes, const std::function<void()>& kernel) {
  if (broken(name)) return;
  const size_t threads = size_t{shape.x} * shape.y * shape.z, blocks = size_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > 1024 || blocks == 0 || grid.y > 65535 || grid.z > 65535)
    throw std::runtime_error(std::string("simt: ") + name + ": no device takes this launch");
  if (shared_bytes > 99 * 1024)
    throw std::runtime_error(std::string("simt: ") + name + ": more shared memory than 99 KB");
  Block running;
  block = &running;
  block->kernel = &kernel, block->name = name;
  gridDim = dim3(grid.x, grid.y, grid.z), blockDim = dim3(shape.x, shape.y, shape.z);
  const Schedule how = schedule();
  for (size_t k = 0; k < blocks; k++) {
    const unsigned b = static_cast<unsigned>(how == Schedule::backwards ? blocks - 1 - k : k);
    blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    begin_block(shape, shared_bytes);
    while (block->live > 0) {
      const bool moved = how == Schedule::fair ? pass_fair() : pass_greedy(how == Schedule::backwards);
      if (!moved && block->live > 0) throw std::runtime_error(std::string("simt: ") + name + ": " + where_all_wait());
    }
  }
  block = nullptr, self = nullptr;
}

}  // namespace simt
