// The tables of the devices, in the order of Backend's members: they differ in their name, memory and what measures them.
#include <array>
#include <cstdio>
#include <utility>

#include "kernels/cuda/devices.h"
#include "kernels/cuda/functions.h"
#include "kernels/cuda/limits.h"

namespace tokensieve::kernels {

namespace cuda {

static Backend table(const char* name, Peak peak, ReadMemory read_memory, const Memory* memory) noexcept {
  return {
      name,
#include "kernels/table.inc"
      matmul_gate, nullptr, nullptr, nullptr, nullptr, nullptr, peak, read_memory, memory,
  };
}

}  // namespace cuda

namespace {

constexpr int kMostDevices = 8;

// What measures a device has no team to say which: a function of its own for each.
template <int device>
double peak_on(Kind kind, int rounds) noexcept {
  return cuda::peak_of(device, kind, rounds);
}
template <int device>
uint64_t read_memory_on(const uint8_t* data, size_t bytes) noexcept {
  return cuda::read_memory_of(device, data, bytes);
}
struct Measures {
  Peak peak;
  ReadMemory read_memory;
};
template <int... devices>
constexpr std::array<Measures, kMostDevices> make_measures(std::integer_sequence<int, devices...>) {
  return {{{peak_on<devices>, read_memory_on<devices>}...}};
}
constexpr std::array<Measures, kMostDevices> kMeasures = make_measures(std::make_integer_sequence<int, kMostDevices>());

struct Devices {
  int count = 0;
  std::array<std::array<char, 16>, kMostDevices> names;
  std::array<Backend, kMostDevices> tables;

  Devices() noexcept {
    count = cuda::count_devices();
    if (count > kMostDevices) count = kMostDevices;
    for (size_t i = 0; i < static_cast<size_t>(count); i++) {
      std::snprintf(names[i].data(), names[i].size(), "cuda:%d", static_cast<int>(i));
      tables[i] = cuda::table(names[i].data(), kMeasures[i].peak, kMeasures[i].read_memory,
                              cuda::device_memory(static_cast<int>(i)));
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
