#include "core/buffer.h"

#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"

namespace tokensieve {

namespace {

constexpr size_t kMapped = size_t{1} << 20;  // from here on memory comes from and returns to the system directly

size_t mapped_size(size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

// A range aligned to huge pages: more is mapped, the ends are given back.
uint8_t* map(size_t size) {
  void* raw =
      mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(raw), aligned = (begin + kHugePage - 1) / kHugePage * kHugePage;
  if (aligned > begin) munmap(raw, aligned - begin);
  const size_t rest = begin + size + kHugePage - (aligned + size);
  if (rest > 0) munmap(reinterpret_cast<void*>(aligned + size), rest);
#ifdef MADV_HUGEPAGE
  madvise(reinterpret_cast<void*>(aligned), size, MADV_HUGEPAGE);
#endif
  return reinterpret_cast<uint8_t*>(aligned);
}

}  // namespace

Buffer::Buffer(size_t bytes, bool zero, const Memory* memory) : memory_(memory), bytes_(bytes) {
  if (bytes == 0) return;
  if (memory_ != nullptr) {
    data_ = memory_->allocate(memory_->device, bytes);
  } else if (bytes >= kMapped) {
    data_ = bytes > (size_t{1} << 46) ? nullptr : map(mapped_size(bytes));  // fresh mappings are zero
  } else {
    data_ = static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    if (data_ != nullptr && zero) std::memset(data_, 0, bytes);
  }
  if (data_ == nullptr) {
    bytes_ = 0;
    throw Error(Code::out_of_memory, "[memory] expected " + std::to_string(bytes) + " bytes to be free, they are not");
  }
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (memory_ != nullptr) {
    memory_->release(memory_->device, data_);
  } else if (bytes_ >= kMapped) {
    munmap(data_, mapped_size(bytes_));
  } else {
    std::free(data_);
  }
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void touch(uint8_t* begin, uint8_t* end, Team& team) noexcept {
  team.each(static_cast<int>((end - begin + kHugePage - 1) / kHugePage),
            [&](int page, int) { *const_cast<volatile uint8_t*>(begin + static_cast<size_t>(page) * kHugePage) = 0; });
}

void trim_heap() noexcept {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void Buffer::need(size_t bytes) {
  if (bytes <= bytes_) return;
  *this = Buffer(memory_);  // first give back, then take
  *this = Buffer(bytes + bytes / 4, false, memory_);
}

}  // namespace tokensieve
