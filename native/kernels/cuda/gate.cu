#include "kernels/gate.h"

#include "kernels/cuda/elements.h"

namespace tokensieve::kernels::cuda {

void gate(Activation act, const float* x, size_t ldx, int n, int d, float* y, size_t ldy, Team& team) noexcept {
  launch_elements<true>(act, x, ldx, n, d, y, ldy, team);
}

}  // namespace tokensieve::kernels::cuda
