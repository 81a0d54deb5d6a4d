// Aligned memory that throws Error(out_of_memory), a device's where one is given. Large buffers are mapped with huge pages where the system gives them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/memory.h"
#include "core/pool.h"

namespace tokensieve {

constexpr size_t kHugePage = size_t{2} << 20;

class Buffer {
 public:
  explicit Buffer(const Memory* memory = nullptr) noexcept : memory_(memory) {}
  explicit Buffer(size_t bytes, bool zero = false, const Memory* memory = nullptr);
  ~Buffer();
  Buffer(Buffer&& other) noexcept : memory_(other.memory_), data_(other.data_), bytes_(other.bytes_) {
    other.data_ = nullptr, other.bytes_ = 0;
  }
  Buffer& operator=(Buffer&& other) noexcept;

  uint8_t* data() noexcept { return data_; }
  const uint8_t* data() const noexcept { return data_; }
  size_t bytes() const noexcept { return bytes_; }
  template <class T>
  T* as() noexcept {
    return reinterpret_cast<T*>(data_);
  }

  // At least `bytes`; what it held is lost where it grows.
  void need(size_t bytes);

 private:
  const Memory* memory_ = nullptr;
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

// Huge pages of a fresh large buffer, all that begin in [begin, end), come to be by all threads, one each: where two touch
// the same one first, both clear a page and one is thrown away.
void touch(uint8_t* begin, uint8_t* end, Team& team) noexcept;

// What the C library keeps for later goes back to the system: after a model is closed.
void trim_heap() noexcept;

}  // namespace tokensieve
