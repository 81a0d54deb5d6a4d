#include "engine/slab_heads.h"

#include <array>
#include <atomic>
#include <new>

#include "engine/page_allocator.h"

namespace tokensieve {

namespace {

// By the slab's number among all of the address space, on two levels: the second is made where it is needed and kept.
constexpr int kLevelBits = 14;
constexpr size_t kEntries = size_t{1} << kLevelBits;
using Level = std::array<std::atomic<void*>, kEntries>;
std::array<std::atomic<Level*>, kEntries> levels;
std::atomic<size_t> count{0};

std::atomic<void*>* entry(const uint8_t* base, bool make) noexcept {
  const uint64_t number = reinterpret_cast<uintptr_t>(base) / kSlabBytes;
  std::atomic<Level*>& level = levels[number >> kLevelBits & (kEntries - 1)];
  Level* at = level.load(std::memory_order_acquire);
  if (at == nullptr && make) {
    Level* const fresh = new (std::nothrow) Level();
    if (fresh == nullptr) return nullptr;
    if (level.compare_exchange_strong(at, fresh, std::memory_order_acq_rel)) {
      at = fresh;
    } else {
      delete fresh;
    }
  }
  return at ? &(*at)[number & (kEntries - 1)] : nullptr;
}

}  // namespace

// Whoever holds a page of such a slab has seen the count go up.
void* head_beside(const uint8_t* base) noexcept {
  if (count.load(std::memory_order_relaxed) == 0) return nullptr;
  const std::atomic<void*>* const at = entry(base, false);
  return at ? at->load(std::memory_order_acquire) : nullptr;
}

bool put_head_beside(const uint8_t* base, void* head) noexcept {
  std::atomic<void*>* const at = entry(base, true);
  if (at == nullptr) return false;
  count++;
  at->store(head, std::memory_order_release);
  return true;
}

void drop_head_beside(const uint8_t* base) noexcept {
  entry(base, false)->store(nullptr, std::memory_order_release);
  count--;
}

}  // namespace tokensieve
