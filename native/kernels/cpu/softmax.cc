#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

struct Rows {
  const float* x;
  size_t ldx;
  int n, d;
  float* y;  // or null
  size_t ldy;
  float* lse;  // [n] or null
  int per_task;
};

constexpr int kBlock = 1024;  // summed in f32 lanes; the blocks in double

float largest(const float* x, int d) {
  const float none = -__builtin_inff();
  F a = set1(none), b = a;
  int i = 0;
  for (; i + 32 <= d; i += 32) {
    a = max(a, load(x + i));
    b = max(b, load(x + i + 16));
  }
  float result = reduce_max(max(a, b));
  for (; i < d; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// The sum of exp(x - highest) over n <= kBlock numbers, which are stored in y where asked.
template <bool kStore>
TS_INLINE double exponentials(const float* x, int n, F highest, float* y) {
  F a = zero(), b = zero();
  int i = 0;
  for (; i + 32 <= n; i += 32) {
    const F e = exp(sub(load(x + i), highest)), f = exp(sub(load(x + i + 16), highest));
    if (kStore) store(y + i, e);
    if (kStore) store(y + i + 16, f);
    a = add(a, e);
    b = add(b, f);
  }
  double sum = 0;
  for (; i < n; i += 16) {
    const int lanes = n - i < 16 ? n - i : 16;
    float e[16];
    store(e, exp(sub(lanes == 16 ? load(x + i) : load_part(x + i, lanes), highest)));
    for (int j = 0; j < lanes; ++j) sum += e[j];
    if (kStore) __builtin_memcpy(y + i, e, static_cast<size_t>(lanes) * sizeof(float));
  }
  return sum + reduce_add(add(a, b));
}

void scale(float* y, int d, float by) {
  const F factor = set1(by);
  int i = 0;
  for (; i + 16 <= d; i += 16) store(y + i, mul(load(y + i), factor));
  if (const int rest = d - i) store_part(y + i, mul(load_part(y + i, rest), factor), rest);
}

float softmax_row(const float* x, int d, float* y) {
  const float highest = largest(x, d);
  if (!(highest > -__builtin_inff())) {
    for (int i = 0; y && i < d; ++i) y[i] = 0;
    return highest;
  }
  const F shift = set1(highest);
  double sum = 0;
  for (int i = 0; i < d; i += kBlock) {
    const int count = d - i < kBlock ? d - i : kBlock;
    sum += y ? exponentials<true>(x + i, count, shift, y + i) : exponentials<false>(x + i, count, shift, nullptr);
  }
  if (y) scale(y, d, static_cast<float>(1 / sum));
  return static_cast<float>(highest + __builtin_log(sum));
}

void softmax_rows(void* context, int index, int) {
  const Rows& p = *static_cast<const Rows*>(context);
  const int first = index * p.per_task, end = first + p.per_task < p.n ? first + p.per_task : p.n;
  for (int t = first; t < end; ++t) {
    const float lse = softmax_row(p.x + t * p.ldx, p.d, p.y ? p.y + t * p.ldy : nullptr);
    if (p.lse) p.lse[t] = lse;
  }
}

}  // namespace

void softmax(const float* x, size_t ldx, int n, int d, float* y, size_t ldy, float* lse, Team& team) noexcept {
  const int per_task = rows_per_task(n, static_cast<size_t>(d));
  Rows rows = {x, ldx, n, d, y, ldy, lse, per_task};
  team.run(tasks_of(n, per_task), softmax_rows, &rows);
}

}  // namespace tokensieve::kernels::TS_ISA
