#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

// The plain loops compute in double, whatever the type.
double peak(Kind, int rounds) noexcept {
  volatile double one = 1;  // or the compiler would know the result
  const double a = one, b = one;
  double sums[8] = {};
  for (int r = 0; r < rounds; ++r) {
    for (double& sum : sums) sum += a * b;
  }
  double all = 0;
  for (const double sum : sums) all += sum;
  return all;
}

uint64_t read_memory(const uint8_t* data, size_t bytes) noexcept {
  const uint64_t* const words = reinterpret_cast<const uint64_t*>(data);
  uint64_t all = 0;
  for (size_t i = 0; i < bytes / sizeof(uint64_t); ++i) all |= words[i];
  return all;
}

}  // namespace tokensieve::kernels::reference
