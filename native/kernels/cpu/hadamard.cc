// Kernel hadamard: rows of heads, by tasks.
#include "kernels/cpu/hadamard.h"

#include "kernels/cpu/functions.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

struct Transform {
  float* x;
  size_t ldx;
  int n, heads, head_size;
  float scale;
  int per_task;
};

void transform_rows(void* context, int index, int) {
  const Transform& p = *static_cast<const Transform*>(context);
  const int first = index * p.per_task, end = first + p.per_task < p.n ? first + p.per_task : p.n;
  const F scale = set1(p.scale);
  for (int t = first; t < end; ++t) {
    for (int h = 0; h < p.heads; ++h) {
      transform(p.x + t * p.ldx + static_cast<size_t>(h) * p.head_size, p.head_size, scale);
    }
  }
}

}  // namespace

void hadamard(float* x, size_t ldx, int n, int heads, int head_size, Team& team) noexcept {
  const int per_task = rows_per_task(n, static_cast<size_t>(heads) * head_size + 1);
  Transform transform = {x, ldx, n, heads, head_size, 1 / __builtin_sqrtf(static_cast<float>(head_size)), per_task};
  team.run(tasks_of(n, per_task), transform_rows, &transform);
}

}  // namespace tokensieve::kernels::TS_ISA
