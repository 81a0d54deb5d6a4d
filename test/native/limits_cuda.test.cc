// What measures a card, on the emulated one: that everything is counted and read, never how fast.
#include <cmath>

#include "core/buffer.h"
#include "engine/limits.h"
#include "kernel_test.h"

using namespace kernel_test;
using tokensieve::Buffer;
using tokensieve::kernels::cuda_backend;
using tokensieve::kernels::cuda_devices;
using tokensieve::kernels::Kind;

TEST("every multiply-add is done: rounds count, by whole warps") {
  for (int card = 0; card < cuda_devices(); ++card) {
    const Backend& backend = *cuda_backend(card);
    for (const Kind kind : {Kind::int8, Kind::bf16, Kind::f32}) {
      const double once = backend.peak(kind, 1);
      // Of a warp an mma is 16 x 8 x 16 (int8: x 32) multiply-adds, 32 where there is none.
      const double piece = kind == Kind::f32 ? 32 : kind == Kind::bf16 ? 2048 : 4096;
      CHECK(once > 0);
      CHECK_EQ(std::fmod(once, piece), 0.0);
      CHECK_EQ(backend.peak(kind, 3), 3 * once);
    }
    CHECK_EQ(backend.peak(Kind::int8, 1), 2 * backend.peak(Kind::bf16, 1));
  }
}

TEST("every word is read, wherever it lies") {
  for (const size_t bytes : {size_t{0}, size_t{256}, size_t{4096}, size_t{300} << 10}) {
    const Backend& backend = *cuda_backend(0);
    Buffer buffer(bytes > 0 ? bytes : 256, true, backend.memory);
    CHECK_EQ(backend.read_memory(buffer.data(), bytes), uint64_t{0});
    for (size_t word = 0; word < bytes / 8; word += bytes > 8192 ? 1201 : 37) {
      const uint64_t bit = uint64_t{1} << (word % 64);
      buffer.as<uint64_t>()[word] = bit;
      CHECK_EQ(backend.read_memory(buffer.data(), bytes), bit);
      buffer.as<uint64_t>()[word] = 0;
    }
    if (bytes == 0) continue;
    buffer.as<uint64_t>()[bytes / 8 - 1] = ~uint64_t{0};
    CHECK_EQ(backend.read_memory(buffer.data(), bytes), ~uint64_t{0});
  }
}

TEST("limits are finite numbers of each kind") {
  const tokensieve::Limits limits = tokensieve::measure_limits(*cuda_backend(cuda_devices() - 1), 3, size_t{1} << 20);
  for (const auto* rates : {&limits.read, &limits.int8, &limits.bf16, &limits.f32}) {
    CHECK(rates->size() >= 3);
    for (const double rate : *rates) CHECK(std::isfinite(rate) && rate > 0);
  }
}
