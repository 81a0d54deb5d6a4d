// Every pair, by the formula.
#include "kernels/partners.h"

#include <cmath>

#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

namespace {

double dot(const float* a, const float* b, int d) {
  double sum = 0;
  for (int c = 0; c < d; c++) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  return sum;
}

}  // namespace

size_t partners_scratch(int, int, int) noexcept { return 0; }

void partners(const float* x, size_t ldx, int d, const int32_t* at, int n, int32_t* partner, float* similarity, void*,
              Team& team) noexcept {
  team.each((n + 1) / 2, [&](int i, int) {
    const float* a = x + static_cast<size_t>(at[2 * i]) * ldx;
    const double length = std::sqrt(dot(a, a, d));
    double best = -2;
    for (int j = 0; j < n / 2; j++) {
      const float* b = x + static_cast<size_t>(at[2 * j + 1]) * ldx;
      const double both = length * std::sqrt(dot(b, b, d)), cosine = both > 0 ? dot(a, b, d) / both : 0;
      if (cosine <= best) continue;
      best = cosine;
      partner[i] = j;
    }
    similarity[i] = static_cast<float>(best);
  });
}

}  // namespace tokensieve::kernels::reference
