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

TS_INLINE void within(float* x, F scale) {
  F even = mul(load(kSigns.row[0]), set1(x[0])), odd = mul(load(kSigns.row[1]), set1(x[1]));
  TS_UNROLL
  for (int j = 2; j < 16; j += 2) {
    even = fma(load(kSigns.row[j]), set1(x[j]), even);
    odd = fma(load(kSigns.row[j + 1]), set1(x[j + 1]), odd);
  }
  store(x, mul(add(even, odd), scale));
}

void transform_rows(void* context, int index, int) {
  const Transform& p = *static_cast<const Transform*>(context);
  const int first = index * p.per_task, end = first + p.per_task < p.n ? first + p.per_task : p.n;
  const F scale = set1(p.scale);
  for (int t = first; t < end; ++t) {
    for (int h = 0; h < p.heads; ++h) {
      float* const head = p.x + t * p.ldx + static_cast<size_t>(h) * p.head_size;
      for (int step = 16; step < p.head_size; step *= 2) butterflies(head, p.head_size, step);
      for (int i = 0; i < p.head_size; i += 16) within(head + i, scale);
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
