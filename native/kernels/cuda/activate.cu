#include "kernels/activate.h"

#include "kernels/cuda/elements.h"

namespace tokensieve::kernels::cuda {

void activate(Activation act, const float* x, size_t ldx, int n, int d, float* y, size_t ldy, Team& team) noexcept {
  launch_elements<false>(act, x, ldx, n, d, y, ldy, team);
}

}  // namespace tokensieve::kernels::cuda
