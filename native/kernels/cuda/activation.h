// The activations of gate.h, to 2e-6 of the value itself however small. All are a times a logistic function of some v,
// or (gelu) of an erfc; both are computed from e^-|v|, which cannot overflow. Where |v| is large an ulp of it shows in
// the result, so it is carried in two parts. Products that an addition follows are rounded here (__fmul_rn): kernels that
// know the activation when they are compiled give the bits of those that do not.
#pragma once

#include "device.h"
#include "kernels/gate.h"

namespace tokensieve::kernels::cuda {

// e^-(high + low), low small
__device__ __forceinline__ float exp_minus(float high, float low) {
  const float e = expf(-high);
  return fmaf(-e, low, e);
}

// v = a (c1 + c3 a^2), constants in two parts; |a| beyond `most` gives a or 0.
struct Curve {
  float c1, c1_rest, c3, c3_rest, most;
};
__host__ __device__ constexpr Curve curve_of(Activation act) {
  switch (act) {
    case Activation::quick_gelu: return {1.702f, -2.19345093e-8f, 0, 0, 200};
    case Activation::gelu_tanh:  // 2 sqrt(2 / pi) (a + 0.044715 a^3)
      return {1.59576917f, -4.53406804e-8f, 0.0713548139f, 2.3988324e-9f, 30};
    default: return {1, 0, 0, 0, 200};  // silu
  }
}

// a / (1 + e^-v)
__device__ __forceinline__ float logistic(const Curve& c, float a) {
  const float b = fminf(fabsf(a), c.most), square = b * b, square_rest = fmaf(b, b, -square);
  const float cubic = __fmul_rn(c.c3, square),
              cubic_rest = fmaf(c.c3_rest, square, fmaf(c.c3, square_rest, fmaf(c.c3, square, -cubic)));
  const float sum = cubic + c.c1, back = sum - cubic, sum_rest = (cubic - (sum - back)) + (c.c1 - back);
  const float v = b * sum, e = exp_minus(v, fmaf(b, sum_rest + c.c1_rest + cubic_rest, fmaf(b, sum, -v)));
  return a * ((a < 0 ? e : 1.0f) / (1 + e));
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
  const float half = __fmul_rn(exp_minus(square * 0.5f, square_rest * 0.5f) * 0.5f, t * q);
  return a * (a < 0 ? half : 1 - half);
}

// An activation as a kernel gets it that is to apply any: without the branches that a switch would leave there.
struct AnyActivation {
  bool normal;  // gelu, of the normal distribution
  Curve curve;
};
inline AnyActivation any_activation(Activation act) noexcept { return {act == Activation::gelu, curve_of(act)}; }
__device__ __forceinline__ float activated(const AnyActivation& act, float a) {
  return act.normal ? gelu(a) : logistic(act.curve, a);
}
template <Activation act>
__device__ __forceinline__ float activated(float a) {
  return act == Activation::gelu ? gelu(a) : logistic(curve_of(act), a);
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
