// The matrix of 16 m is that of m over blocks times that of 16 within: butterflies of whole vectors first, then every
// vector as a sum of its 16 broadcast numbers times rows of signs, which needs no shuffle of any instruction set.
#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

struct Signs {
  float row[16][16];
  constexpr Signs() : row() {
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 16; ++j) {
        int odd = 0;
        for (int bit = 1; bit < 16; bit *= 2) odd ^= (i & j & bit) != 0;
        row[i][j] = odd ? -1.f : 1.f;
      }
    }
  }
};
alignas(64) constexpr Signs kSigns;

struct Transform {
  float* x;
  size_t ldx;
  int n, heads, head_size;
  float scale;
  int per_task;
};

// Pairs of vectors that are `step` apart.
TS_INLINE void butterflies(float* x, int size, int step) {
  for (int block = 0; block < size; block += 2 * step) {
    for (int i = block; i < block + step; i += 16) {
      const F a = load(x + i), b = load(x + i + step);
      store(x + i, add(a, b));
      store(x + i + step, sub(a, b));
    }
  }
}

// n vectors one after the other: a row of signs is loaded once for all.
template <int n>
TS_INLINE void within(float* x, F scale) {
  F sum[n];
  TS_UNROLL
  for (int i = 0; i < n; ++i) sum[i] = zero();
  TS_UNROLL
  for (int j = 0; j < 16; ++j) {
    const F signs = load(kSigns.row[j]);
    TS_UNROLL
    for (int i = 0; i < n; ++i) sum[i] = fma(signs, set1(x[16 * i + j]), sum[i]);
  }
  TS_UNROLL
  for (int i = 0; i < n; ++i) store(x + 16 * i, mul(sum[i], scale));
}

void transform_rows(void* context, int index, int) {
  const Transform& p = *static_cast<const Transform*>(context);
  const int first = index * p.per_task, end = first + p.per_task < p.n ? first + p.per_task : p.n;
  const F scale = set1(p.scale);
  for (int t = first; t < end; ++t) {
    for (int h = 0; h < p.heads; ++h) {
      float* const head = p.x + t * p.ldx + static_cast<size_t>(h) * p.head_size;
      for (int step = 16; step < p.head_size; step *= 2) butterflies(head, p.head_size, step);
      int i = 0;
      for (; i + 64 <= p.head_size; i += 64) within<4>(head + i, scale);
      for (; i < p.head_size; i += 16) within<1>(head + i, scale);
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
