#include "kernels/reference/activation.h"
#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

void gate(Activation act, const float* x, size_t ldx, int n, int d, float* y, size_t ldy, Team&) noexcept {
  for (int t = 0; t < n; ++t) {
    const float* const row = x + t * ldx;
    for (int i = 0; i < d; ++i) y[t * ldy + i] = static_cast<float>(activated(act, row[i]) * row[d + i]);
  }
}

}  // namespace tokensieve::kernels::reference
