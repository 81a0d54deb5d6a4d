// The activations once more, in long double.
#pragma once

#include <cmath>

#include "kernels/gate.h"

namespace activations {

using tokensieve::kernels::Activation;

constexpr Activation kAll[] = {Activation::silu, Activation::gelu_tanh, Activation::gelu, Activation::quick_gelu};

inline long double activated(Activation act, long double a) {
  const long double pi = 3.14159265358979323846264338328L;
  if (act == Activation::silu) return a / (1 + std::exp(-a));
  if (act == Activation::quick_gelu) return a / (1 + std::exp(-1.702L * a));
  if (act == Activation::gelu) return a / 2 * std::erfc(-a / std::sqrt(2.0L));
  return a / (1 + std::exp(-2 * std::sqrt(2 / pi) * (a + 0.044715L * a * a * a)));
}

}  // namespace activations
