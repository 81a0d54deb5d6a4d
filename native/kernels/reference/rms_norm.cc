#include <cmath>

#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

void rms_norm(const float* x, size_t ldx, int n, int groups, int d, const float* weight, float eps, const float* add,
              float* y, size_t ldy, Team&) noexcept {
  for (int t = 0; t < n; ++t) {
    for (int g = 0; g < groups; ++g) {
      const size_t from = t * ldx + static_cast<size_t>(g) * d, to = t * ldy + static_cast<size_t>(g) * d;
      double squares = 0;
      for (int i = 0; i < d; ++i) squares += static_cast<double>(x[from + i]) * x[from + i];
      const double factor = 1 / std::sqrt(squares / d + eps);
      for (int i = 0; i < d; ++i) {
        const double normed = x[from + i] * factor * (weight ? weight[i] : 1.0);
        y[to + i] = static_cast<float>(add ? add[to + i] + normed : normed);
      }
    }
  }
}

}  // namespace tokensieve::kernels::reference
