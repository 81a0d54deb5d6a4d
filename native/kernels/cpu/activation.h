// The activations of gate.h are a logistic or an erfc of a negative argument at heart; computed from e^-|v|, which never
// overflows, they keep their relative precision where the result is tiny. There v is large and an ulp of it would
// show, so it is carried in two parts.
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/gate.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

// e^-(high + low), low small
TS_INLINE F exp_minus(F high, F low) {
  const F e = exp(sub(zero(), high));
  return fnma(e, low, e);
}

// a / (1 + e^-v) for a v of a's sign, given e^-|v|
TS_INLINE F logistic_part(F a, F e) { return mul(a, div(select_less(a, zero(), e, set1(1)), add(set1(1), e))); }

struct Silu {
  static TS_INLINE F of(F a) { return logistic_part(a, exp(sub(zero(), abs(a)))); }
};

struct QuickGelu {
  // v = 1.702 |a|
  static TS_INLINE F of(F a) {
    const F c = set1(1.702f), c_low = set1(-2.19345093e-8f);
    const F b = min(abs(a), set1(200));
    const F v = mul(b, c), v_low = fma(b, c_low, fma(b, c, sub(zero(), v)));
    return logistic_part(a, exp_minus(v, v_low));
  }
};

struct GeluTanh {
  // v = 2 sqrt(2/pi) (b + 0.044715 b^3) = b (c1 + c3 b^2) for b = |a|; beyond 30 the result is a or 0
  static TS_INLINE F of(F a) {
    const F c1 = set1(1.59576917f), c1_low = set1(-4.53406804e-8f);
    const F c3 = set1(0.0713548139f), c3_low = set1(2.3988324e-9f);
    const F b = min(abs(a), set1(30));
    const F square = mul(b, b), square_low = fma(b, b, sub(zero(), square));
    const F cubic = mul(c3, square);
    F cubic_low = fma(c3, square, sub(zero(), cubic));
    cubic_low = fma(c3_low, square, fma(c3, square_low, cubic_low));
    const F sum = add(cubic, c1), back = sub(sum, cubic);
    const F sum_low = add(sub(cubic, sub(sum, back)), sub(c1, back));
    const F low = add(add(sum_low, c1_low), cubic_low);
    const F v = mul(b, sum), v_low = fma(b, low, fma(b, sum, sub(zero(), v)));
    return logistic_part(a, exp_minus(v, v_low));
  }
};

struct Gelu {
  // erfc(z) = e^(-z^2) t q(t), t = 1 / (1 + z / 2): q fitted to 5e-8 for 0 <= z <= 10; z = |a| / sqrt 2
  static TS_INLINE F of(F a) {
    const F b = min(abs(a), set1(20));
    const F square = mul(b, b), square_low = fma(b, b, sub(zero(), square));
    const F t = div(set1(1), fma(b, set1(0.353553391f), set1(1)));
    F q = fma(set1(-0.0590705109f), t, set1(0.284582292f));
    q = fma(q, t, set1(-0.487214521f));
    q = fma(q, t, set1(0.278083185f));
    q = fma(q, t, set1(-0.0266361605f));
    q = fma(q, t, set1(0.202691054f));
    q = fma(q, t, set1(0.243102776f));
    q = fma(q, t, set1(0.282375413f));
    q = fma(q, t, set1(0.282086411f));
    const F e = exp_minus(mul(square, set1(0.5f)), mul(square_low, set1(0.5f)));
    const F half_erfc = mul(mul(e, set1(0.5f)), mul(t, q));
    return mul(a, select_less(a, zero(), half_erfc, sub(set1(1), half_erfc)));
  }
};

}  // namespace

}  // namespace tokensieve::kernels::TS_ISA
