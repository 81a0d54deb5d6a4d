#include "engine/limits.h"

#include "core/buffer.h"
#include "kernel_test.h"

using namespace kernel_test;
using tokensieve::Buffer;
using tokensieve::kernels::Kind;

TEST("every multiply-add is done, and twice the rounds are twice as many") {
  for (const Backend* backend : backends()) {
    for (const Kind kind : {Kind::int8, Kind::bf16, Kind::f32}) {
      const double once = backend->peak(kind, 1), often = backend->peak(kind, 1 << 12);
      CHECK_EQ(often, once * (1 << 12));
      const bool none = kind == Kind::bf16 && std::strstr(backend->name, "bf16") == nullptr &&
                        std::strcmp(backend->name, "reference") != 0;
      CHECK_EQ(once > 0, !none);
    }
  }
}

TEST("the largest number of rounds still counts exactly") {
  for (const Backend* backend : backends()) {
    if (std::strcmp(backend->name, "reference") == 0) continue;  // double: nothing to lose
    for (const Kind kind : {Kind::int8, Kind::bf16, Kind::f32})
      CHECK_EQ(backend->peak(kind, 1 << 20), backend->peak(kind, 1) * (1 << 20));
  }
}

TEST("every word is read") {
  constexpr size_t kBytes = 4096;
  Buffer buffer(kBytes, true);
  for (const Backend* backend : backends()) {
    CHECK_EQ(backend->read_memory(buffer.data(), kBytes), uint64_t{0});
    CHECK_EQ(backend->read_memory(buffer.data(), 0), uint64_t{0});
    for (size_t word = 0; word < kBytes / 8; ++word) {
      const uint64_t bit = uint64_t{1} << (word % 64);
      buffer.as<uint64_t>()[word] = bit;
      CHECK_EQ(backend->read_memory(buffer.data(), kBytes), bit);
      buffer.as<uint64_t>()[word] = 0;
    }
  }
}

TEST("limits of one and of two threads") {
  for (const Backend* backend : backends()) {
    for (const int threads : {1, 2}) {
      const tokensieve::Limits limits = tokensieve::measure_limits(*backend, threads, size_t{8} << 20);
      CHECK(!limits.read.empty() && !limits.int8.empty() && !limits.f32.empty());
      CHECK_EQ(limits.bf16.empty(), backend->peak(Kind::bf16, 1) == 0);
      for (const auto* rates : {&limits.read, &limits.int8, &limits.bf16, &limits.f32}) {
        for (const double rate : *rates) CHECK(rate > 0);
      }
    }
  }
}
