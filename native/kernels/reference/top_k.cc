#include <algorithm>
#include <cmath>

#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

namespace {
float rank(float value) noexcept { return std::isnan(value) ? -INFINITY : value; }
}  // namespace

void top_k(const float* x, int n, int k, Order order, int32_t* out, void* scratch, Team&) noexcept {
  if (k <= 0) return;
  if (k == 1) {
    out[0] = 0;
    for (int i = 1; i < n; ++i) {
      if (rank(x[i]) > rank(x[out[0]])) out[0] = i;
    }
    return;
  }
  int32_t* const indices = static_cast<int32_t*>(scratch);
  for (int i = 0; i < n; ++i) indices[i] = i;
  std::sort(indices, indices + n, [x](int32_t a, int32_t b) {
    const float left = rank(x[a]), right = rank(x[b]);
    return left > right || (left == right && a < b);
  });
  std::copy(indices, indices + k, out);
  if (order == Order::index) std::sort(out, out + k);
}

}  // namespace tokensieve::kernels::reference
