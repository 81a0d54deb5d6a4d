#include <cmath>

#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

void softmax(const float* x, size_t ldx, int n, int d, float* y, size_t ldy, float* lse, Team&) noexcept {
  for (int t = 0; t < n; ++t) {
    const float* const row = x + t * ldx;
    double largest = -INFINITY;
    for (int i = 0; i < d; ++i) largest = row[i] > largest ? row[i] : largest;
    double sum = 0;
    for (int i = 0; i < d && largest > -INFINITY; ++i) sum += std::exp(row[i] - largest);
    for (int i = 0; i < d && y; ++i) {
      y[t * ldy + i] = sum > 0 ? static_cast<float>(std::exp(row[i] - largest) / sum) : 0.0f;
    }
    if (lse) lse[t] = static_cast<float>(largest + std::log(sum));
  }
}

}  // namespace tokensieve::kernels::reference
