#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

void rope(float* x, size_t ldx, int n, int heads, int head_size, int rotated, const float* cos, const float* sin,
          Team&) noexcept {
  const int half = rotated / 2;
  for (int t = 0; t < n; ++t) {
    for (int h = 0; h < heads; ++h) {
      float* const head = x + t * ldx + static_cast<size_t>(h) * head_size;
      for (int i = 0; i < half; ++i) {
        const double a = head[i], b = head[i + half];
        const double c = cos[static_cast<size_t>(t) * half + i], s = sin[static_cast<size_t>(t) * half + i];
        head[i] = static_cast<float>(a * c - b * s);
        head[i + half] = static_cast<float>(b * c + a * s);
      }
    }
  }
}

}  // namespace tokensieve::kernels::reference
