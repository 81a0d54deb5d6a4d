#include <cmath>

#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

void layer_norm(const float* x, size_t ldx, int n, int d, const float* weight, const float* bias, float eps, float* y,
                size_t ldy, Team&) noexcept {
  for (int t = 0; t < n; ++t) {
    const float* const row = x + t * ldx;
    double sum = 0, squares = 0;
    for (int i = 0; i < d; ++i) sum += row[i];
    const double mean = sum / d;
    for (int i = 0; i < d; ++i) squares += (row[i] - mean) * (row[i] - mean);
    const double factor = 1 / std::sqrt(squares / d + eps);
    for (int i = 0; i < d; ++i) y[t * ldy + i] = static_cast<float>((row[i] - mean) * factor * weight[i] + bias[i]);
  }
}

}  // namespace tokensieve::kernels::reference
