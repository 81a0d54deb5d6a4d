#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

struct Norm {
  const float* x;
  size_t ldx;
  int n, d;
  const float *weight, *bias;  // [d]
  float eps;
  float* y;
  size_t ldy;
  int per_task;
};

// Sums of x and of (x - mean)^2 in four sums of 16 lanes each, so that even a long row adds few terms to any one of them.
template <bool kSquares>
TS_INLINE float sum(const float* x, int d, F mean) {
  F sums[4] = {zero(), zero(), zero(), zero()};
  int i = 0, part = 0;
  for (; i + 16 <= d; i += 16, part = (part + 1) & 3) {
    const F v = kSquares ? sub(load(x + i), mean) : load(x + i);
    sums[part] = kSquares ? fma(v, v, sums[part]) : add(sums[part], v);
  }
  if (const int rest = d - i) {
    float last[16];
    store(last, mean);  // adds nothing to the squares
    store_part(last, load_part(x + i, rest), rest);
    const F v = kSquares ? sub(load(last), mean) : load_part(x + i, rest);
    sums[part] = kSquares ? fma(v, v, sums[part]) : add(sums[part], v);
  }
  return reduce_add(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

void norm_rows(void* context, int index, int) {
  const Norm& p = *static_cast<const Norm*>(context);
  const int first = index * p.per_task, end = first + p.per_task < p.n ? first + p.per_task : p.n;
  for (int t = first; t < end; ++t) {
    const float* const x = p.x + t * p.ldx;
    float* const y = p.y + t * p.ldy;
    const F mean = set1(sum<false>(x, p.d, zero()) / static_cast<float>(p.d));
    const double variance = static_cast<double>(sum<true>(x, p.d, mean)) / p.d;
    const F factor = set1(static_cast<float>(1 / __builtin_sqrt(variance + p.eps)));
    int i = 0;
    for (; i + 16 <= p.d; i += 16) {
      const F v = mul(sub(load(x + i), mean), factor);
      store(y + i, fma(v, load(p.weight + i), load(p.bias + i)));
    }
    if (const int rest = p.d - i) {
      const F v = mul(sub(load_part(x + i, rest), mean), factor);
      store_part(y + i, fma(v, load_part(p.weight + i, rest), load_part(p.bias + i, rest)), rest);
    }
  }
}

}  // namespace

void layer_norm(const float* x, size_t ldx, int n, int d, const float* weight, const float* bias, float eps, float* y,
                size_t ldy, Team& team) noexcept {
  const int per_task = rows_per_task(n, static_cast<size_t>(d));
  Norm norm = {x, ldx, n, d, weight, bias, eps, y, ldy, per_task};
  team.run(tasks_of(n, per_task), norm_rows, &norm);
}

}  // namespace tokensieve::kernels::TS_ISA
