#include "engine/slab_memory.h"

#include <algorithm>
#include <cstdint>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace tokensieve {

namespace {

uintptr_t aligned_up(void* address) {
  return (reinterpret_cast<uintptr_t>(address) + kSlabBytes - 1) / kSlabBytes * kSlabBytes;
}

#if defined(_WIN32)
size_t system_page() {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return std::max<size_t>(info.dwPageSize, kMinGranule);
}
#else
size_t system_page() { return std::max(static_cast<size_t>(sysconf(_SC_PAGESIZE)), kMinGranule); }

void* map(size_t bytes) {
  void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return start == MAP_FAILED ? nullptr : start;
}
#endif

}  // namespace

size_t granule() {
  static const size_t bytes = system_page();
  return bytes;
}

#if defined(_WIN32)
// Windows cannot cut a mapping: a bigger one shows where an aligned one fits, and somebody may take that place in
// between.
void* map_slab() {
  for (int attempt = 0; attempt < 16; attempt++) {
    void* probe = VirtualAlloc(nullptr, 2 * kSlabBytes, MEM_RESERVE, PAGE_NOACCESS);
    if (!probe) return nullptr;
    VirtualFree(probe, 0, MEM_RELEASE);
    void* aligned = reinterpret_cast<void*>(aligned_up(probe));
    if (void* slab = VirtualAlloc(aligned, kSlabBytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE)) return slab;
  }
  return nullptr;
}
void unmap_slab(void* slab) { VirtualFree(slab, 0, MEM_RELEASE); }
bool drop_memory(void* start, size_t bytes) { return DiscardVirtualMemory(start, bytes) == ERROR_SUCCESS; }
bool begin_huge(void*) { return false; }
void make_huge(void*) {}
void make_small(void*) {}
#else
void* map_slab() {
  void* slab = map(kSlabBytes);  // the next one is mostly mapped right below the last, and so aligned
  if (slab && reinterpret_cast<uintptr_t>(slab) % kSlabBytes != 0) {
    munmap(slab, kSlabBytes);
    uint8_t* wide = static_cast<uint8_t*>(map(2 * kSlabBytes));
    if (!wide) return nullptr;
    const size_t before = aligned_up(wide) - reinterpret_cast<uintptr_t>(wide);
    if (before != 0) munmap(wide, before);
    slab = wide + before;
    munmap(wide + before + kSlabBytes, kSlabBytes - before);
  }
  if (slab) make_small(slab);  // a small session would cost a big one's memory
  return slab;
}

void unmap_slab(void* slab) { munmap(slab, kSlabBytes); }

bool drop_memory(void* start, size_t bytes) {
#if defined(__linux__)
  return madvise(start, bytes, MADV_DONTNEED) == 0;
#else  // elsewhere advice may be put off until memory is short; a new mapping in its place is not
  return mmap(start, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == start;
#endif
}

#if defined(__linux__)
bool begin_huge(void* slab) {
  if (madvise(slab, kSlabBytes, MADV_HUGEPAGE) != 0) return false;
  *static_cast<volatile uint8_t*>(slab) = 0;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  unsigned char resident = 0;  // of the last page: it is where the first one is
  if (mincore(static_cast<uint8_t*>(slab) + kSlabBytes - page, page, &resident) == 0 && resident & 1) return true;
  make_small(slab);
  return false;
}

void make_huge(void* slab) {
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, which older headers lack
  if (madvise(slab, kSlabBytes, MADV_HUGEPAGE) == 0) madvise(slab, kSlabBytes, kCollapse);
}

void make_small(void* slab) { madvise(slab, kSlabBytes, MADV_NOHUGEPAGE); }
#else
bool begin_huge(void*) { return false; }
void make_huge(void*) {}
void make_small(void*) {}
#endif
#endif

}  // namespace tokensieve
