// Memory of KV caches: pages of a few sizes out of slabs that are mapped from and unmapped to the system.
//
// Each cache has an allocator of its own, so that what one session frees is never held up by a page of another in the
// same slab. A page counts its references: forks and snapshots share it, and it may outlive the cache that made it. The
// lowest free page is handed out first, so that free memory gathers at the end. Every function may be called from any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/memory.h"

namespace tokensieve {

constexpr size_t kSlabBytes = size_t{2} << 20;  // also a slab's alignment: a page finds its slab by its address
constexpr size_t kMaxPageBytes = kSlabBytes / 8;

struct Slab;

class PageAllocator {
 public:
  struct Close {
    void operator()(PageAllocator* allocator) const noexcept { allocator->close(); }
  };
  using Handle = std::unique_ptr<PageAllocator, Close>;
  static Handle open(const Memory* memory = nullptr);  // pages of a device's memory

  // A page of undefined content, 64-byte aligned, with one reference. bytes: a multiple of 64. Throws
  // Error(out_of_memory).
  uint8_t* allocate(size_t bytes);
  // Free memory goes back to the system, down to single pages of it.
  void give_back() noexcept;

 private:
  friend void release_page(const uint8_t* page) noexcept;
  struct SizeClass {
    size_t bytes;
    std::vector<Slab*> slabs;  // in the order of use; Slab::position is the index here
    size_t first_free;  // no slab before it has a free page
    size_t empty;  // slabs without a page in use: at most one is kept
  };
  explicit PageAllocator(const Memory* memory) noexcept : memory_(memory) {}
  ~PageAllocator() = default;
  void close() noexcept;  // no more allocations; deleted with the last page
  SizeClass& size_class(size_t bytes);
  Slab* add_slab(SizeClass& of);
  void free_page(Slab* slab, size_t index) noexcept;
  void remove_slab(SizeClass& of, Slab* slab) noexcept;

  const Memory* const memory_;
  std::mutex mutex_;
  std::vector<SizeClass> classes_;
  bool closed_ = false;
};

void retain_page(const uint8_t* page) noexcept;
void release_page(const uint8_t* page) noexcept;
bool page_is_shared(const uint8_t* page) noexcept;  // has more than one reference

// Bytes of all allocators of the process.
struct PageCounts {
  size_t used;  // pages handed out
  size_t held;  // memory that the system gave and has not got back: what these caches add to the resident size
  size_t mapped;  // address space
};
PageCounts page_counts() noexcept;

// For tests: the allocation after `count` more successful ones fails, and all that follow it; negative: none fails.
void fail_page_allocations_after(int count) noexcept;

}  // namespace tokensieve
