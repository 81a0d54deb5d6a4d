// The mean, rounded to f32, is a first guess: what is left of it after subtraction is summed beside the squares and taken
// off both, so that a mean far from zero costs no digits.
#include "kernels/layer_norm.h"

#include "kernels/cuda/norm_rows.h"

namespace tokensieve::kernels::cuda {

struct NormRows {
  const float* x;
  size_t ldx;
  int n, d;
  const float *weight, *bias;
  float eps;
  float* y;
  size_t ldy;

  __host__ __device__ size_t rows() const { return static_cast<size_t>(n); }
  template <int kWarps>
  __device__ __forceinline__ void apply(const Row<kWarps>& row) const {
    const float* const from = x + row.index * ldx;
    float* const to = y + row.index * ldy;
    float sum = 0, rest = 0, squares = 0;
    row.each([&](int i) { sum += from[i]; });
    const float guess = row.mean(sum);
    row.each([&](int i) {
      const float centred = from[i] - guess;
      rest += centred;
      squares = fmaf(centred, centred, squares);
    });
    rest = row.mean(rest), squares = row.mean(squares);
    const float factor = 1 / sqrtf(fmaf(-rest, rest, squares) + eps);
    row.each([&](int i) { to[i] = fmaf((from[i] - guess - rest) * factor, weight[i], bias[i]); });
  }
};

void layer_norm(const float* x, size_t ldx, int n, int d, const float* weight, const float* bias, float eps, float* y,
                size_t ldy, Team& team) noexcept {
  launch_norm(NormRows{x, ldx, n, d, weight, bias, eps, y, ldy}, stream_of(team));
}

}  // namespace tokensieve::kernels::cuda
