// The devices of this machine, and their memory.
#pragma once

#include "core/memory.h"

namespace tokensieve::kernels::cuda {

struct Device {
  int number;
  const char* name;
  size_t bytes;  // of memory, all of it
  int processors;
  int capability;  // 90 for 9.0
};

int count_devices() noexcept;  // 0 where there is no driver or no card
Device device_info(int device) noexcept;
const Memory* device_memory(int device) noexcept;

}  // namespace tokensieve::kernels::cuda
