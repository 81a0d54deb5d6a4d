// Which backends this machine can run. Asks the processor itself rather than the compiler's runtime, which not every
// toolchain of ours brings along.
#include "kernels/backend.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace tokensieve::kernels {

#if defined(__x86_64__)
namespace avx2 {
const Backend& backend() noexcept;
}
namespace avx512_vnni {
const Backend& backend() noexcept;
}
namespace avx512_vnni_bf16 {
const Backend& backend() noexcept;
}
#elif defined(__aarch64__)
namespace neon {
const Backend& backend() noexcept;
}
namespace neon_dotprod {
const Backend& backend() noexcept;
}
#endif

namespace {

struct Level {
  bool runs;
  const Backend& (*backend)() noexcept;
};

#if defined(__x86_64__)

constexpr bool has(unsigned word, int bit) noexcept { return (word >> bit & 1) != 0; }

// Register state that the operating system saves (XCR0). A processor may have instructions that the system does not
// allow.
unsigned saved_state(unsigned leaf1_ecx) noexcept {
  if (!has(leaf1_ecx, 27)) return 0;  // OSXSAVE
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

struct Levels {
  bool avx2 = false, vnni = false, bf16 = false;
};

Levels detect() noexcept {
  Levels levels;
  unsigned a, b, c, d, a7, b7, c7, d7;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !__get_cpuid_count(7, 0, &a7, &b7, &c7, &d7)) return levels;
  const unsigned saved = saved_state(c);
  const bool ymm = (saved & 0x06) == 0x06, zmm = (saved & 0xe6) == 0xe6;
  const bool fma = has(c, 12), f16c = has(c, 29);
  levels.avx2 = ymm && fma && f16c && has(c, 28) && has(b7, 5) && has(b7, 8);                      // AVX AVX2 BMI2
  levels.vnni = levels.avx2 && zmm && has(b7, 16) && has(b7, 17) && has(b7, 30) && has(b7, 31) && has(c7, 11);
  unsigned a71, b71, c71, d71;
  levels.bf16 = levels.vnni && a7 >= 1 && __get_cpuid_count(7, 1, &a71, &b71, &c71, &d71) && has(a71, 5);
  return levels;
}

#elif defined(__aarch64__)

bool has_dotprod() noexcept {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return true;  // every arm64 Mac
#endif
}

#endif

BackendList detect_backends() noexcept {
  BackendList list = {};
#if defined(__x86_64__)
  const Levels levels = detect();
  const Level all[] = {
      {levels.bf16, avx512_vnni_bf16::backend}, {levels.vnni, avx512_vnni::backend}, {levels.avx2, avx2::backend}};
#elif defined(__aarch64__)
  const Level all[] = {{has_dotprod(), neon_dotprod::backend}, {true, neon::backend}};
#endif
  for (const Level& level : all) {
    if (level.runs) list.items[list.count++] = &level.backend();
  }
  list.items[list.count++] = &reference_backend();
  return list;
}

}  // namespace

const BackendList& runnable_backends() noexcept {
  static const BackendList list = detect_backends();
  return list;
}

const Backend* backend_by_name(const char* name) noexcept {
  const BackendList& list = runnable_backends();
  for (int i = 0; i < list.count; ++i) {
    if (std::strcmp(list.items[i]->name, name) == 0) return list.items[i];
  }
  for (int i = 0; i < cuda_devices(); ++i) {
    if (std::strcmp(cuda_backend(i)->name, name) == 0) return cuda_backend(i);
  }
  return nullptr;
}

}  // namespace tokensieve::kernels
