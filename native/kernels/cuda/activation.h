// The activations of gate.h, to 2e-6 of the value itself however small. All are a times a logistic function of some v,
// or (gelu) of an erfc; both are computed from e^-|v|, which cannot overflow. Where |v| is large an ulp of it shows in
// the result, so it is carried in two parts.
#pragma once

#include "device.h"
#include "kernels/gate.h"

namespace tokensieve::kernels::cuda {

// e^-(high + low), low small
__device__ __forceinline__ float exp_minus(float high, float low) {
  const float e = expf(-high);
  return fmaf(-e, low, e);
}

// a / (1 + e^-v) for v of a's sign, given e^-|v|
__device__ __forceinline__ float logistic_part(float a, float e) { return a * ((a < 0 ? e : 1.0f) / (1 + e)); }

__device__ __forceinline__ float silu(float a) { return logistic_part(a, expf(-fabsf(a))); }

// v = 1.702 a; beyond 200 the result is a or 0
__device__ __forceinline__ float quick_gelu(float a) {
  const float factor = 1.702f, rest = -2.19345093e-8f, b = fminf(fabsf(a), 200.0f), v = b * factor;
  return logistic_part(a, exp_minus(v, fmaf(b, rest, fmaf(b, factor, -v))));
}

// v = 2 sqrt(2 / pi) (a + 0.044715 a^3) = a (c1 + c3 a^2); beyond 30 the result is a or 0
__device__ __forceinline__ float gelu_tanh(float a) {
  const float c1 = 1.59576917f, c1_rest = -4.53406804e-8f, c3 = 0.0713548139f, c3_rest = 2.3988324e-9f;
  const float b = fminf(fabsf(a), 30.0f), square = b * b, square_rest = fmaf(b, b, -square);
  const float cubic = c3 * square, cubic_rest = fmaf(c3_rest, square, fmaf(c3, square_rest, fmaf(c3, square, -cubic)));
  const float sum = cubic + c1, back = sum - cubic, sum_rest = (cubic - (sum - back)) + (c1 - back);
  const float v = b * sum;
  return logistic_part(a, exp_minus(v, fmaf(b, sum_rest + c1_rest + cubic_rest, fmaf(b, sum, -v))));
}

// a (1 - erfc(z) / 2) or a erfc(z) / 2, z = |a| / sqrt 2, erfc(z) = e^(-z^2) t q(t), t = 1 / (1 + z / 2), q fitted to
// 5e-8 for z <= 10
__device__ __forceinline__ float gelu(float a) {
  constexpr float kFit[] = {-0.0590705109f, 0.284582292f, -0.487214521f, 0.278083185f, -0.0266361605f,
                            0.202691054f,   0.243102776f, 0.282375413f,  0.282086411f};
  const float b = fminf(fabsf(a), 20.0f), square = b * b, square_rest = fmaf(b, b, -square);
  const float t = 1 / fmaf(b, 0.353553391f, 1.0f);
  float q = kFit[0];
#pragma unroll
  for (int i = 1; i < 9; i++) q = fmaf(q, t, kFit[i]);
  const float half = exp_minus(square * 0.5f, square_rest * 0.5f) * 0.5f * (t * q);
  return a * (a < 0 ? half : 1 - half);
}

template <Activation act>
__device__ __forceinline__ float activated(float a) {
  if constexpr (act == Activation::silu) return silu(a);
  if constexpr (act == Activation::quick_gelu) return quick_gelu(a);
  if constexpr (act == Activation::gelu_tanh) return gelu_tanh(a);
  return gelu(a);
}

// f(constant) for the activation that act is
template <Activation act>
struct Act {
  static constexpr Activation value = act;
};
template <class F>
void with_activation(Activation act, F&& f) noexcept {
  switch (act) {
    case Activation::silu: return f(Act<Activation::silu>{});
    case Activation::gelu_tanh: return f(Act<Activation::gelu_tanh>{});
    case Activation::gelu: return f(Act<Activation::gelu>{});
    case Activation::quick_gelu: return f(Act<Activation::quick_gelu>{});
  }
}

}  // namespace tokensieve::kernels::cuda
