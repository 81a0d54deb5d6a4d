#include <cmath>

#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

void hadamard(float* x, size_t ldx, int n, int heads, int head_size, Team&) noexcept {
  const double scale = 1 / std::sqrt(static_cast<double>(head_size));
  double y[kMaxHadamard];
  for (int t = 0; t < n; ++t) {
    for (int h = 0; h < heads; ++h) {
      float* const head = x + t * ldx + static_cast<size_t>(h) * head_size;
      for (int i = 0; i < head_size; ++i) y[i] = head[i];
      for (int step = 1; step < head_size; step *= 2) {
        for (int i = 0; i < head_size; ++i) {
          if (i & step) continue;
          const double a = y[i], b = y[i + step];
          y[i] = a + b;
          y[i + step] = a - b;
        }
      }
      for (int i = 0; i < head_size; ++i) head[i] = static_cast<float>(y[i] * scale);
    }
  }
}

}  // namespace tokensieve::kernels::reference
