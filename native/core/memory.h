// Memory of a device, and when its work is done. The processor has none of this: what works in the process's own memory
// is done when a call returns.
//
// Memory of a device is managed: the host may touch it whenever no work of its queue is under way. Work is handed to a
// queue in order and runs behind the caller's back; nobody reads what it writes before `wait`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace tokensieve {

struct Queue;  // of one device (kernels/cuda)

struct Memory {
  int device;
  // Zeroed; aligned to 64 bytes, to 2 MiB where it is as large; null where there is not enough.
  uint8_t* (*allocate)(int device, size_t bytes) noexcept;
  void (*release)(int device, uint8_t* data) noexcept;  // when all work under way on the device is done
  // A hint that the device will read or write these bytes next: they begin to move.
  void (*prefetch)(Queue* queue, const uint8_t* data, size_t bytes) noexcept;
  Queue* (*open_queue)(int device) noexcept;  // null where the device gives none
  void (*close_queue)(Queue* queue) noexcept;  // waits first
  // A step of many small pieces of work, which is like the one before: what is handed to the queue from begin on may
  // be held back until end, a wait, or a release, and goes to the device more cheaply.
  void (*begin)(Queue* queue) noexcept;
  void (*end)(Queue* queue) noexcept;
  // Numbers of the host's into memory of the device, and back, in the order of the queue's work: no page of managed
  // memory moves. `from` of send may change at once. What fetch returns is there after the next wait, until the first
  // fetch after that.
  void (*send)(Queue* queue, const float* from, float* to, size_t n) noexcept;
  const float* (*fetch)(Queue* queue, const float* from, size_t n) noexcept;
  // Null, or what went wrong since the last wait: a sentence of the driver's.
  const char* (*wait)(Queue* queue) noexcept;
  size_t (*free_bytes)(int device) noexcept;
  // Memory that only the device reaches, zeroed and aligned as above: the host reads and writes it in the order of a
  // queue's work. What read brings is there after the next wait; the host's bytes that write takes may change at once.
  uint8_t* (*allocate_own)(int device, size_t bytes) noexcept;
  void (*read)(Queue* queue, void* to_host, const uint8_t* from, size_t bytes) noexcept;
  void (*write)(Queue* queue, uint8_t* to, const void* from_host, size_t bytes) noexcept;
  void (*clear)(Queue* queue, uint8_t* data, size_t bytes) noexcept;  // to 0
};

// For vectors of numbers that kernels read or write: in a device's memory where one is given.
template <class T>
struct MemoryAllocator {
  using value_type = T;
  using propagate_on_container_copy_assignment = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  const Memory* memory = nullptr;

  MemoryAllocator(const Memory* memory = nullptr) noexcept : memory(memory) {}
  template <class U>
  MemoryAllocator(const MemoryAllocator<U>& other) noexcept : memory(other.memory) {}
  T* allocate(size_t n) {
    if (memory == nullptr) return std::allocator<T>().allocate(n);
    uint8_t* const data = memory->allocate(memory->device, n * sizeof(T));
    if (data == nullptr) throw std::bad_alloc();
    return reinterpret_cast<T*>(data);
  }
  void deallocate(T* data, size_t n) noexcept {
    if (memory == nullptr) return std::allocator<T>().deallocate(data, n);
    memory->release(memory->device, reinterpret_cast<uint8_t*>(data));
  }
};
template <class T, class U>
bool operator==(const MemoryAllocator<T>& a, const MemoryAllocator<U>& b) noexcept {
  return a.memory == b.memory;
}
template <class T, class U>
bool operator!=(const MemoryAllocator<T>& a, const MemoryAllocator<U>& b) noexcept {
  return a.memory != b.memory;
}
template <class T>
using Numbers = std::vector<T, MemoryAllocator<T>>;

}  // namespace tokensieve
