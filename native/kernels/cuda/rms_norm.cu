#include "kernels/rms_norm.h"

#include "kernels/cuda/norm_rows.h"

namespace tokensieve::kernels::cuda {

struct RmsRows {
  const float* x;
  size_t ldx;
  int n, groups, d;
  const float* weight;
  float eps;
  const float* add;
  float* y;
  size_t ldy;

  __host__ __device__ size_t rows() const { return static_cast<size_t>(n) * static_cast<size_t>(groups); }
  template <int kWarps>
  __device__ __forceinline__ void apply(const Row<kWarps>& row) const {
    const size_t t = row.index / static_cast<size_t>(groups), g = row.index % static_cast<size_t>(groups);
    const float* const from = x + t * ldx + g * static_cast<size_t>(d);
    const size_t to = t * ldy + g * static_cast<size_t>(d);
    float squares = 0;
    row.each([&](int i) { squares = fmaf(from[i], from[i], squares); });
    const float factor = 1 / sqrtf(row.mean(squares) + eps);
    row.each([&](int i) {
      float normed = from[i] * factor;
      if (weight) normed *= weight[i];
      y[to + i] = add ? add[to + i] + normed : normed;
    });
  }
};

void rms_norm(const float* x, size_t ldx, int n, int groups, int d, const float* weight, float eps, const float* add,
              float* y, size_t ldy, Team& team) noexcept {
  launch_norm(RmsRows{x, ldx, n, groups, d, weight, eps, add, y, ldy}, stream_of(team));
}

}  // namespace tokensieve::kernels::cuda
