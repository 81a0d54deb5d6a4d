#include "kernels/cpu/functions.h"
#include "kernels/cpu/norm_row.h"
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

void norm_rows(void* context, int index, int) {
  const Norm& p = *static_cast<const Norm*>(context);
  const auto scale_row = p.add ? (p.weight ? scale_norm<true, true> : scale_norm<false, true>)
                               : (p.weight ? scale_norm<true, false> : scale_norm<false, false>);
  const int first = index * p.per_task, end = first + p.per_task < p.n ? first + p.per_task : p.n;
  for (int t = first; t < end; ++t) {
    for (int g = 0; g < p.groups; ++g) {
      const float* const x = p.x + t * p.ldx + static_cast<size_t>(g) * p.d;
      const size_t to = t * p.ldy + static_cast<size_t>(g) * p.d;
      scale_row(x, p.d, p.weight, norm_factor(x, p.d, p.eps), p.add ? p.add + to : nullptr, p.y + to);
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
