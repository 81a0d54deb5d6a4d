#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

struct Norm {
  const float* x;
  size_t ldx;
  int n, groups, d;
  const float* weight;  // [d] or null
  float eps;
  const float* add;  // as y, or null
  float* y;
  size_t ldy;
  int per_task;
};

// Four sums of 16 lanes each, so that even a long row adds few terms to any one of them.
TS_INLINE float square_sum(const float* x, int d) {
  F sums[4] = {zero(), zero(), zero(), zero()};
  int i = 0;
  for (; i + 64 <= d; i += 64) {
    TS_UNROLL for (int part = 0; part < 4; ++part) {
      const F v = load(x + i + 16 * part);
      sums[part] = fma(v, v, sums[part]);
    }
  }
  for (int part = 0; i < d; i += 16, ++part) {
    const F v = d - i >= 16 ? load(x + i) : load_part(x + i, d - i);
    sums[part] = fma(v, v, sums[part]);
  }
  return reduce_add(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

template <bool kWeight, bool kAdd>
void scale(const float* x, int d, const float* weight, F factor, const float* sum, float* y) {
  int i = 0;
  for (; i + 16 <= d; i += 16) {
    F v = mul(load(x + i), factor);
    if (kWeight) v = mul(v, load(weight + i));
    if (kAdd) v = add(load(sum + i), v);
    store(y + i, v);
  }
  if (const int rest = d - i) {
    F v = mul(load_part(x + i, rest), factor);
    if (kWeight) v = mul(v, load_part(weight + i, rest));
    if (kAdd) v = add(load_part(sum + i, rest), v);
    store_part(y + i, v, rest);
  }
}

void norm_rows(void* context, int index, int) {
  const Norm& p = *static_cast<const Norm*>(context);
  const auto scale_row = p.add ? (p.weight ? scale<true, true> : scale<false, true>)
                               : (p.weight ? scale<true, false> : scale<false, false>);
  const int first = index * p.per_task, end = first + p.per_task < p.n ? first + p.per_task : p.n;
  for (int t = first; t < end; ++t) {
    for (int g = 0; g < p.groups; ++g) {
      const float* const x = p.x + t * p.ldx + static_cast<size_t>(g) * p.d;
      const size_t to = t * p.ldy + static_cast<size_t>(g) * p.d;
      const double mean = static_cast<double>(square_sum(x, p.d)) / p.d;
      const F factor = set1(static_cast<float>(1 / __builtin_sqrt(mean + p.eps)));
      scale_row(x, p.d, p.weight, factor, p.add ? p.add + to : nullptr, p.y + to);
    }
  }
}

}  // namespace

void rms_norm(const float* x, size_t ldx, int n, int groups, int d, const float* weight, float eps, const float* add,
              float* y, size_t ldy, Team& team) noexcept {
  const int per_task = rows_per_task(n, static_cast<size_t>(groups) * d);
  Norm norm = {x, ldx, n, groups, d, weight, eps, add, y, ldy, per_task};
  team.run(tasks_of(n, per_task), norm_rows, &norm);
}

}  // namespace tokensieve::kernels::TS_ISA
