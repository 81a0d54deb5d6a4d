// The whole test harness: TEST cases register themselves, CHECKs count, main prints every failure and one total.
// Exit code 0 passed, 1 failed, 77 skipped (this machine cannot run the instruction set that TOKENSIEVE_ISA asks for).
// Included by exactly one file of each test program; main is here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace check {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

struct Counts {
  long passed = 0, failed = 0;
};

inline Counts& counts() {
  static Counts instance;
  return instance;
}

struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

// Counts one check; the first failures are printed, so that a broken kernel does not print a million lines.
inline bool expect(bool ok, const char* file, int line, const std::string& what) {
  if (ok) {
    ++counts().passed;
  } else if (++counts().failed <= 20) {
    std::printf("%s:%d: %s\n", file, line, what.c_str());
  }
  return ok;
}

// Whether prompts' attention is of int8 there (kernels/attention.h).
inline bool attends_in_int8(const char* isa) {
  return std::strstr(isa, "vnni") != nullptr || std::strcmp(isa, "neon-dotprod") == 0;
}

inline std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

// NaN is near NaN only, an infinity near itself only.
inline bool near(double got, double want, double tolerance) {
  if (std::isnan(got) || std::isnan(want)) return std::isnan(got) && std::isnan(want);
  return got == want || std::fabs(got - want) <= tolerance;
}

// A small generator with a fixed sequence on every platform (splitmix64).
class Random {
 public:
  explicit Random(uint64_t seed = 1) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  float uniform(float low, float high) { return static_cast<float>(low + (high - low) * uniform()); }
  int below(int n) { return static_cast<int>(next() % static_cast<uint64_t>(n)); }
  float normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return static_cast<float>(radius * std::cos(6.283185307179586 * uniform()));
  }
  std::vector<float> normals(size_t n) {
    std::vector<float> values(n);
    for (float& value : values) value = normal();
    return values;
  }

 private:
  uint64_t state_;
};

// The tests ask the processor themselves: the chooser under test must not decide whether it is tested.
inline bool runs_here(const char* isa) {
  if (!isa || std::strcmp(isa, "reference") == 0) return true;
  if (std::strncmp(isa, "cuda:", 5) == 0) return true;  // emulated, in programs that are linked with test/native/simt
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (std::strcmp(isa, "avx2") == 0) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool vnni = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
  if (std::strcmp(isa, "avx512-vnni") == 0) return vnni;
  if (std::strcmp(isa, "avx512-vnni-bf16") == 0) return vnni && __builtin_cpu_supports("avx512bf16");
#elif defined(__aarch64__)
  if (std::strcmp(isa, "neon") == 0) return true;
#if defined(__linux__)
  if (std::strcmp(isa, "neon-dotprod") == 0) return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  if (std::strcmp(isa, "neon-dotprod") == 0) return true;
#endif
#endif
  return false;
}

inline void run(const Case& test) {
  const long failed = counts().failed;
  try {
    test.run();
  } catch (const std::exception& error) {
    expect(false, test.name, 0, std::string("threw ") + error.what());
  }
  if (counts().failed > failed) std::printf("FAILED %s (%ld checks)\n", test.name, counts().failed - failed);
}

}  // namespace check

#define CHECK_JOIN2(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN2(a, b)
#define TEST(name) CHECK_TEST(CHECK_JOIN(test_, __LINE__), name)
#define CHECK_TEST(id, name)                                \
  static void id();                                         \
  static const check::Register CHECK_JOIN(id, _)(name, id); \
  static void id()

#define CHECK(condition) check::expect(static_cast<bool>(condition), __FILE__, __LINE__, #condition)

#define CHECK_EQ(got, want)                                                                     \
  do {                                                                                          \
    const auto check_got = (got);                                                               \
    const auto check_want = (want);                                                             \
    check::expect(check_got == check_want, __FILE__, __LINE__,                                  \
                  #got " is " + check::number(static_cast<double>(check_got)) + ", expected " + \
                      check::number(static_cast<double>(check_want)));                          \
  } while (0)

#define CHECK_NEAR(got, want, tolerance)                                                                            \
  do {                                                                                                              \
    const double check_got = static_cast<double>(got), check_want = static_cast<double>(want);                      \
    check::expect(check::near(check_got, check_want, (tolerance)), __FILE__, __LINE__,                              \
                  #got " is " + check::number(check_got) + ", expected " + check::number(check_want) + " within " + \
                      check::number(tolerance));                                                                    \
  } while (0)

// The statement must throw Type; CHECK_THROWS(parse(bytes), tokensieve::core::Error)
#define CHECK_THROWS(statement, Type)                                                   \
  do {                                                                                  \
    bool check_threw = false;                                                           \
    try {                                                                               \
      statement;                                                                        \
    } catch (const Type&) {                                                             \
      check_threw = true;                                                               \
    }                                                                                   \
    check::expect(check_threw, __FILE__, __LINE__, #statement " did not throw " #Type); \
  } while (0)

int main() {
  const char* isa = std::getenv("TOKENSIEVE_ISA");
  if (!check::runs_here(isa)) {
    std::printf("skipped: this machine cannot run %s\n", isa);
    return 77;
  }
  for (const check::Case& test : check::cases()) check::run(test);
  std::printf("%s: %zu tests, %ld checks passed, %ld failed\n", isa ? isa : "default", check::cases().size(),
              check::counts().passed, check::counts().failed);
  return check::counts().failed == 0 && check::counts().passed > 0 ? 0 : 1;
}
