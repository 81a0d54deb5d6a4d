#include "engine/page_allocator.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <string>

#include "core/error.h"
#include "engine/slab_heads.h"
#include "engine/slab_memory.h"

// A free page is poison to AddressSanitizer: reading a row that was evicted is found at once.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace tokensieve {

namespace {

constexpr size_t kWords = kSlabBytes / kMinGranule / 64;

std::atomic<size_t> used_bytes{0}, held_bytes{0}, mapped_bytes{0};
std::atomic<int> failing_after{-1};

size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }
bool get_bit(const uint64_t* bits, size_t i) { return bits[i / 64] >> i % 64 & 1; }
void set_bit(uint64_t* bits, size_t i) { bits[i / 64] |= uint64_t{1} << i % 64; }
void clear_bit(uint64_t* bits, size_t i) { bits[i / 64] &= ~(uint64_t{1} << i % 64); }

}  // namespace

// The head of a slab, in its first bytes, or beside it where they are a device's own. Behind it: refs [pages], taken
// [pages] bits, and in the first case from `start` on the pages.
struct Slab {
  PageAllocator* owner;
  const Memory* memory;  // null: the process's own
  uint8_t* base;  // the slab's first byte
  size_t page_bytes, pages, used;
  size_t first_free;  // no page below it is free
  size_t position;  // among the slabs of its size
  size_t start;  // offset of page 0, a multiple of the system's page
  bool freed;  // since the last give_back
  bool huge;  // one huge page, as far as the system makes them
  uint64_t touched[kWords];  // system pages that have been handed out and not given back
  std::atomic<uint32_t>* refs;
  uint64_t* taken;

  uint8_t* page(size_t index) { return base + start + index * page_bytes; }
  size_t index(const uint8_t* of) const { return (static_cast<size_t>(of - base) - start) / page_bytes; }
  void touch(size_t index);
  void touch_all();
  void give_back() noexcept;
  bool unused(size_t g) const;
};

namespace {

Slab* slab_of(const uint8_t* page) {
  const uint8_t* const base =
      reinterpret_cast<const uint8_t*>(reinterpret_cast<uintptr_t>(page) & ~static_cast<uintptr_t>(kSlabBytes - 1));
  void* const beside = head_beside(base);
  return static_cast<Slab*>(beside ? beside : const_cast<uint8_t*>(base));
}

size_t refs_offset() { return round_up(sizeof(Slab), 64); }
size_t taken_offset(size_t pages) { return round_up(refs_offset() + pages * sizeof(std::atomic<uint32_t>), 8); }
size_t start_offset(size_t pages) { return round_up(taken_offset(pages) + (pages + 63) / 64 * 8, granule()); }

Slab* place_head(void* at, uint8_t* base, PageAllocator* owner, const Memory* of, size_t page_bytes, size_t pages) {
  Slab* slab = new (at) Slab();
  uint8_t* const bytes = static_cast<uint8_t*>(at);
  slab->owner = owner;
  slab->memory = of;
  slab->base = base;
  slab->page_bytes = page_bytes;
  slab->pages = pages;
  slab->start = of ? 0 : start_offset(pages);
  slab->refs = reinterpret_cast<std::atomic<uint32_t>*>(bytes + refs_offset());
  for (size_t i = 0; i < pages; i++) new (slab->refs + i) std::atomic<uint32_t>(0);
  slab->taken = reinterpret_cast<uint64_t*>(bytes + taken_offset(pages));  // zero: fresh memory
  return slab;
}

Slab* make_beside(PageAllocator* owner, const Memory* of, size_t page_bytes) noexcept {
  const size_t pages = kSlabBytes / page_bytes;
  void* const head = std::calloc(1, start_offset(pages));
  uint8_t* const base = head ? of->allocate_own(of->device, kSlabBytes) : nullptr;
  if (!base || !put_head_beside(base, head)) {
    if (base) of->release(of->device, base);
    std::free(head);
    return nullptr;
  }
  return place_head(head, base, owner, of, page_bytes, pages);
}

Slab* make_own(PageAllocator* owner, size_t page_bytes, bool huge) noexcept {
  void* const memory = map_slab();
  if (!memory) return nullptr;
  huge = huge && begin_huge(memory);
  size_t pages = kSlabBytes / page_bytes;
  while (start_offset(pages) + pages * page_bytes > kSlabBytes) pages--;
  Slab* slab = place_head(memory, static_cast<uint8_t*>(memory), owner, nullptr, page_bytes, pages);
  slab->huge = huge;
  if (huge) slab->touch_all();
  return slab;
}

Slab* make_slab(PageAllocator* owner, const Memory* of, size_t page_bytes, size_t position) noexcept {
  // Behind a full slab there may be many: the session is not small, and what a huge page takes too much is less than it
  // has already.
  Slab* slab = of ? make_beside(owner, of, page_bytes) : make_own(owner, page_bytes, position > 0);
  if (!slab) return nullptr;
  slab->position = position;
  ASAN_POISON_MEMORY_REGION(slab->base + slab->start, kSlabBytes - slab->start);
  mapped_bytes += kSlabBytes;
  held_bytes += slab->start;
  return slab;
}

void destroy_slab(Slab* slab) noexcept {
  size_t held = slab->start;
  for (size_t g = 0; g < kSlabBytes / granule(); g++) held += get_bit(slab->touched, g) ? granule() : 0;
  held_bytes -= held;
  mapped_bytes -= kSlabBytes;
  uint8_t* const base = slab->base;
  ASAN_UNPOISON_MEMORY_REGION(base, kSlabBytes);
  const Memory* const of = slab->memory;
  if (of == nullptr) return unmap_slab(base);
  drop_head_beside(base);
  std::free(slab);
  of->release(of->device, base);
}

}  // namespace

void Slab::touch(size_t index) {
  const size_t from = start + index * page_bytes, to = from + page_bytes;
  for (size_t g = from / granule(); g * granule() < to; g++) {
    if (get_bit(touched, g)) continue;
    set_bit(touched, g);
    held_bytes += granule();
  }
}

void Slab::touch_all() {
  for (size_t g = start / granule(); g * granule() < kSlabBytes; g++) set_bit(touched, g);
  held_bytes += kSlabBytes - start;
}

bool Slab::unused(size_t g) const {
  const size_t first = (g * granule() - start) / page_bytes;
  const size_t last = std::min(((g + 1) * granule() - 1 - start) / page_bytes, pages - 1);
  for (size_t i = first; i <= last; i++) {
    if (get_bit(taken, i)) return false;
  }
  return true;
}

void Slab::give_back() noexcept {
  if (!freed || memory) return;  // a device's memory comes and goes by slabs
  freed = false;
  const size_t end = kSlabBytes / granule();
  for (size_t g = start / granule(); g < end;) {
    size_t stop = g;
    while (stop < end && get_bit(touched, stop) && unused(stop)) stop++;
    if (stop > g && huge) {
      make_small(base);
      huge = false;
    }
    if (stop > g && drop_memory(base + g * granule(), (stop - g) * granule())) {
      for (size_t i = g; i < stop; i++) clear_bit(touched, i);
      held_bytes -= (stop - g) * granule();
    }
    g = std::max(stop, g + 1);
  }
}

PageAllocator::Handle PageAllocator::open(const Memory* memory) { return Handle(new PageAllocator(memory)); }

PageAllocator::SizeClass& PageAllocator::size_class(size_t bytes) {
  for (SizeClass& c : classes_) {
    if (c.bytes == bytes) return c;
  }
  classes_.push_back({bytes, {}, 0, 0});
  return classes_.back();
}

Slab* PageAllocator::add_slab(SizeClass& of) {
  of.slabs.reserve(of.slabs.size() + 1 > of.slabs.capacity() ? 2 * of.slabs.size() + 4 : 0);
  Slab* slab = make_slab(this, memory_, of.bytes, of.slabs.size());
  if (!slab) throw std::bad_alloc();
  of.slabs.push_back(slab);
  of.empty++;
  return slab;
}

uint8_t* PageAllocator::allocate(size_t bytes) {
  if (bytes == 0 || bytes % 64 != 0 || bytes > kMaxPageBytes) {
    throw Error(Code::internal, "[page_allocator] expected a multiple of 64 up to " + std::to_string(kMaxPageBytes) +
                                    " bytes, got " + std::to_string(bytes));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  try {
    if (failing_after.load(std::memory_order_relaxed) >= 0 && failing_after.fetch_sub(1) <= 0) {
      failing_after = 0;
      throw std::bad_alloc();
    }
    SizeClass& of = size_class(bytes);
    while (of.first_free < of.slabs.size() && of.slabs[of.first_free]->used == of.slabs[of.first_free]->pages)
      of.first_free++;
    Slab* slab = of.first_free < of.slabs.size() ? of.slabs[of.first_free] : add_slab(of);
    if (slab->used++ == 0) of.empty--;
    if (slab->used == slab->pages && !slab->huge && !memory_) {
      make_huge(slab);
      slab->huge = true;
    }
    size_t index = slab->first_free;
    while (get_bit(slab->taken, index))
      index = slab->taken[index / 64] == ~uint64_t{0} ? (index / 64 + 1) * 64 : index + 1;
    slab->first_free = index + 1;
    set_bit(slab->taken, index);
    slab->touch(index);
    slab->refs[index].store(1, std::memory_order_relaxed);
    used_bytes += bytes;
    ASAN_UNPOISON_MEMORY_REGION(slab->page(index), bytes);
    return slab->page(index);
  } catch (const std::bad_alloc&) {
    throw Error(Code::out_of_memory, "[kv_cache] expected " + std::to_string(bytes) +
                                         " more bytes for a page of the cache, the system gave none");
  }
}

void PageAllocator::remove_slab(SizeClass& of, Slab* slab) noexcept {
  of.slabs.erase(of.slabs.begin() + static_cast<ptrdiff_t>(slab->position));
  for (size_t i = slab->position; i < of.slabs.size(); i++) of.slabs[i]->position = i;
  of.first_free = std::min(of.first_free, slab->position);
  of.empty--;
  destroy_slab(slab);
}

void PageAllocator::free_page(Slab* slab, size_t index) noexcept {
  bool last = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    SizeClass& of = size_class(slab->page_bytes);
    ASAN_POISON_MEMORY_REGION(slab->page(index), slab->page_bytes);
    clear_bit(slab->taken, index);
    slab->first_free = std::min(slab->first_free, index);
    slab->freed = true;
    of.first_free = std::min(of.first_free, slab->position);
    used_bytes -= slab->page_bytes;
    // One empty slab is kept, so that a page that comes and goes is not a system call each time.
    if (--slab->used == 0 && (++of.empty > 1 || closed_)) remove_slab(of, slab);
    last = closed_ && std::all_of(classes_.begin(), classes_.end(), [](const SizeClass& c) { return c.slabs.empty(); });
  }
  if (last) delete this;
}

void PageAllocator::give_back() noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  for (SizeClass& of : classes_) {
    for (size_t i = of.slabs.size(); i-- > 0;) {
      if (of.slabs[i]->used == 0) {
        remove_slab(of, of.slabs[i]);
      } else {
        of.slabs[i]->give_back();
      }
    }
  }
}

void PageAllocator::close() noexcept {
  give_back();
  bool last;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    for (SizeClass& of : classes_) {
      while (of.empty > 0)
        remove_slab(of, *std::find_if(of.slabs.begin(), of.slabs.end(), [](Slab* s) { return s->used == 0; }));
    }
    last = std::all_of(classes_.begin(), classes_.end(), [](const SizeClass& c) { return c.slabs.empty(); });
  }
  if (last) delete this;
}

void retain_page(const uint8_t* page) noexcept {
  Slab* slab = slab_of(page);
  slab->refs[slab->index(page)].fetch_add(1, std::memory_order_relaxed);
}

void release_page(const uint8_t* page) noexcept {
  Slab* slab = slab_of(page);
  const size_t index = slab->index(page);
  if (slab->refs[index].fetch_sub(1, std::memory_order_acq_rel) == 1) slab->owner->free_page(slab, index);
}

bool page_is_shared(const uint8_t* page) noexcept {
  const Slab* slab = slab_of(page);
  return slab->refs[slab->index(page)].load(std::memory_order_acquire) > 1;
}

PageCounts page_counts() noexcept { return {used_bytes, held_bytes, mapped_bytes}; }

void fail_page_allocations_after(int count) noexcept { failing_after = count; }

}  // namespace tokensieve
