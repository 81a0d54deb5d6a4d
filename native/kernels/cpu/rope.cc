#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

struct Rotation {
  float* x;
  size_t ldx;
  int n, heads, head_size, half;
  const float *cos, *sin;  // [n][half]
  int per_task;
};

TS_INLINE void rotate_head(float* a, float* b, int half, const float* cos, const float* sin) {
  int i = 0;
  for (; i + 16 <= half; i += 16) {
    const F u = load(a + i), v = load(b + i), c = load(cos + i), s = load(sin + i);
    store(a + i, fnma(v, s, mul(u, c)));
    store(b + i, fma(u, s, mul(v, c)));
  }
  if (const int rest = half - i) {
    const F u = load_part(a + i, rest), v = load_part(b + i, rest);
    const F c = load_part(cos + i, rest), s = load_part(sin + i, rest);
    store_part(a + i, fnma(v, s, mul(u, c)), rest);
    store_part(b + i, fma(u, s, mul(v, c)), rest);
  }
}

void rotate_rows(void* context, int index, int) {
  const Rotation& p = *static_cast<const Rotation*>(context);
  const int first = index * p.per_task, end = first + p.per_task < p.n ? first + p.per_task : p.n;
  for (int t = first; t < end; ++t) {
    const size_t angles = static_cast<size_t>(t) * p.half;
    for (int h = 0; h < p.heads; ++h) {
      float* const head = p.x + t * p.ldx + static_cast<size_t>(h) * p.head_size;
      rotate_head(head, head + p.half, p.half, p.cos + angles, p.sin + angles);
    }
  }
}

}  // namespace

void rope(float* x, size_t ldx, int n, int heads, int head_size, int rotated, const float* cos, const float* sin,
          Team& team) noexcept {
  const int per_task = rows_per_task(n, static_cast<size_t>(heads) * rotated + 1);
  Rotation rotation = {x, ldx, n, heads, head_size, rotated / 2, cos, sin, per_task};
  team.run(tasks_of(n, per_task), rotate_rows, &rotation);
}

}  // namespace tokensieve::kernels::TS_ISA
