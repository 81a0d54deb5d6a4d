// Where the numbers of a backend lie and when its work is done. Backends of the processor have none of this: they work
// in the process's own memory, and their work is done when a call returns.
//
// Memory of a device is managed: the host may touch it whenever no work of its queue is under way. Work is handed to a
// queue in order and runs behind the caller's back; nobody reads what it writes before `wait`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tokensieve {

struct Queue;  // of one device: kernels/cuda

namespace kernels {

struct Memory {
  int device;
  uint8_t* (*allocate)(int device, size_t bytes) noexcept;  // 64-byte aligned, zeroed; null where there is not enough
  void (*release)(int device, uint8_t* data) noexcept;
  // A hint that the device will read or write these bytes next: they begin to move.
  void (*prefetch)(Queue* queue, const uint8_t* data, size_t bytes) noexcept;
  Queue* (*open_queue)(int device) noexcept;  // null where the device gives none
  void (*close_queue)(Queue* queue) noexcept;  // waits first
  // Null, or what went wrong since the last wait: a sentence of the driver's.
  const char* (*wait)(Queue* queue) noexcept;
  size_t (*free_bytes)(int device) noexcept;
};

}  // namespace kernels
}  // namespace tokensieve
