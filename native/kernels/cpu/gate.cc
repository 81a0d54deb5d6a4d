#include "kernels/cpu/activation.h"
#include "kernels/cpu/functions.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

struct Rows {
  const float* x;
  size_t ldx;
  int n, d;
  float* y;
  size_t ldy;
  int per_task;
};

template <class Act>
void gate_rows(void* context, int index, int) {
  const Rows& p = *static_cast<const Rows*>(context);
  const int first = index * p.per_task, end = first + p.per_task < p.n ? first + p.per_task : p.n;
  for (int t = first; t < end; ++t) {
    const float* const a = p.x + t * p.ldx;
    const float* const up = a + p.d;
    float* const y = p.y + t * p.ldy;
    int i = 0;
    for (; i + 16 <= p.d; i += 16) store(y + i, mul(Act::of(load(a + i)), load(up + i)));
    if (const int rest = p.d - i) {
      store_part(y + i, mul(Act::of(load_part(a + i, rest)), load_part(up + i, rest)), rest);
    }
  }
}

}  // namespace

void gate(Activation act, const float* x, size_t ldx, int n, int d, float* y, size_t ldy, Team& team) noexcept {
  const int per_task = rows_per_task(n, 2 * static_cast<size_t>(d));
  Rows rows = {x, ldx, n, d, y, ldy, per_task};
  const Team::Task task = act == Activation::silu         ? gate_rows<Silu>
                          : act == Activation::gelu_tanh  ? gate_rows<GeluTanh>
                          : act == Activation::quick_gelu ? gate_rows<QuickGelu>
                                                          : gate_rows<Gelu>;
  team.run(tasks_of(n, per_task), task, &rows);
}

}  // namespace tokensieve::kernels::TS_ISA
