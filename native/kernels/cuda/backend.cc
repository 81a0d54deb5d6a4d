// The tables of the devices, in the order of Backend's members: they differ in their name and memory.
#include <array>
#include <cstdio>
#include <utility>

#include "kernels/cuda/devices.h"
#include "kernels/cuda/functions.h"

namespace tokensieve::kernels {

namespace cuda {

namespace {
double no_peak(Kind, int) noexcept { return 0; }
uint64_t no_reading(const uint8_t*, size_t) noexcept { return 0; }
}  // namespace

static Backend table(const char* name, const Memory* memory) noexcept {
  return {
      name,
#include "kernels/table.inc"
      matmul_gate, nullptr, nullptr, nullptr, no_peak, no_reading, memory,
  };
}

}  // namespace cuda

namespace {

constexpr int kMostDevices = 8;

struct Devices {
  int count = 0;
  std::array<std::array<char, 16>, kMostDevices> names;
  std::array<Backend, kMostDevices> tables;

  Devices() noexcept {
    count = cuda::count_devices();
    if (count > kMostDevices) count = kMostDevices;
    for (size_t i = 0; i < static_cast<size_t>(count); i++) {
      std::snprintf(names[i].data(), names[i].size(), "cuda:%d", static_cast<int>(i));
      tables[i] = cuda::table(names[i].data(), cuda::device_memory(static_cast<int>(i)));
    }
  }
};

const Devices& devices() noexcept {
  static const Devices all;
  return all;
}

}  // namespace

int cuda_devices() noexcept { return devices().count; }

const Backend* cuda_backend(int device) noexcept {
  return device >= 0 && device < devices().count ? &devices().tables[static_cast<size_t>(device)] : nullptr;
}

const char* cuda_device_name(int device) noexcept { return cuda::device_info(device).name; }

}  // namespace tokensieve::kernels
