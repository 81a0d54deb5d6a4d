// The activations of gate.h in double. 1 + tanh and 1 + erf cancel for large negative arguments; written as a logistic
// and erfc they do not.
#pragma once

#include <cmath>

#include "kernels/gate.h"

namespace tokensieve::kernels::reference {

inline double activated(Activation act, double a) noexcept {
  if (act == Activation::gelu) return a / 2 * std::erfc(-a / std::sqrt(2.0));
  double v = a;
  if (act == Activation::quick_gelu) v = 1.702 * a;
  if (act == Activation::gelu_tanh) v = 2 * std::sqrt(2 / 3.14159265358979323846) * (a + 0.044715 * a * a * a);
  return a / (1 + std::exp(-v));
}

}  // namespace tokensieve::kernels::reference
