#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

// ---- gather: a task is a range of rows; in place, where another task might overwrite a row before it is read, of
// columns -----------------------------------------------------------------------------------------------------------

struct Copy {
  const float* x;
  size_t ldx;
  int d;
  const int32_t* index;
  int n;
  float* out;
  size_t ldo;
  int per_task;  // rows, or columns in place
};

TS_INLINE void copy(float* to, const float* from, int count) {
  if (to != from) __builtin_memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}

void copy_rows(void* context, int task, int) {
  const Copy& p = *static_cast<const Copy*>(context);
  const int first = task * p.per_task, end = first + p.per_task < p.n ? first + p.per_task : p.n;
  for (int i = first; i < end; ++i) copy(p.out + i * p.ldo, p.x + static_cast<size_t>(p.index[i]) * p.ldx, p.d);
}

void copy_columns(void* context, int task, int) {
  const Copy& p = *static_cast<const Copy*>(context);
  const int first = task * p.per_task, count = p.d - first < p.per_task ? p.d - first : p.per_task;
  for (int i = 0; i < p.n; ++i) {
    copy(p.out + i * p.ldo + first, p.x + static_cast<size_t>(p.index[i]) * p.ldx + first, count);
  }
}

// ---- merge: a task owns kGroups groups and reads the rows that fold into them, in ascending order ------------------

constexpr int kGroups = 64;

struct Fold {
  const float* x;
  size_t ldx;
  int d;
  const int32_t* into;
  const float* size;
  int n, groups;
  float* out;
  size_t ldo;
  float* out_size;
};

// out = out * keep + x * weight
TS_INLINE void blend(float* out, float keep, const float* x, float weight, int d) {
  const F k = set1(keep), w = set1(weight);
  int i = 0;
  for (; i + 16 <= d; i += 16) store(out + i, fma(load(x + i), w, mul(load(out + i), k)));
  if (const int rest = d - i) {
    store_part(out + i, fma(load_part(x + i, rest), w, mul(load_part(out + i, rest), k)), rest);
  }
}

TS_INLINE void scale(float* out, float by, int d) {
  const F factor = set1(by);
  int i = 0;
  for (; i + 16 <= d; i += 16) store(out + i, mul(load(out + i), factor));
  if (const int rest = d - i) store_part(out + i, mul(load_part(out + i, rest), factor), rest);
}

void fold_groups(void* context, int task, int) {
  const Fold& p = *static_cast<const Fold*>(context);
  const int first = task * kGroups, count = p.groups - first < kGroups ? p.groups - first : kGroups;
  double weights[kGroups] = {};
  int members[kGroups] = {};
  for (int i = 0; i < p.n; ++i) {
    const int g = p.into[i] - first;
    if (p.into[i] < 0 || g < 0 || g >= count) continue;
    float* const out = p.out + static_cast<size_t>(first + g) * p.ldo;
    const float* const x = p.x + i * p.ldx;
    if (members[g] == 0) {
      __builtin_memcpy(out, x, static_cast<size_t>(p.d) * sizeof(float));
    } else {
      blend(out, members[g] == 1 ? static_cast<float>(weights[g]) : 1, x, p.size[i], p.d);
    }
    weights[g] += p.size[i];
    ++members[g];
  }
  for (int g = 0; g < count; ++g) {
    p.out_size[first + g] = static_cast<float>(weights[g]);
    if (members[g] > 1) scale(p.out + static_cast<size_t>(first + g) * p.ldo, static_cast<float>(1 / weights[g]), p.d);
  }
}

}  // namespace

void gather(const float* x, size_t ldx, int d, const int32_t* index, int n, float* out, size_t ldo,
            Team& team) noexcept {
  Copy job = {x, ldx, d, index, n, out, ldo, 0};
  if (out == x) {
    job.per_task = rows_per_task(n, static_cast<size_t>(d)) == n ? d + 1 : 256;
    team.run(tasks_of(d, job.per_task), copy_columns, &job);
  } else {
    job.per_task = rows_per_task(n, static_cast<size_t>(d));
    team.run(tasks_of(n, job.per_task), copy_rows, &job);
  }
}

void merge(const float* x, size_t ldx, int d, const int32_t* into, const float* size, int n, int groups, float* out,
           size_t ldo, float* out_size, Team& team) noexcept {
  Fold fold = {x, ldx, d, into, size, n, groups, out, ldo, out_size};
  const int tasks = tasks_of(groups, kGroups);
  if (rows_per_task(n, static_cast<size_t>(d)) < n) return team.run(tasks, fold_groups, &fold);
  for (int task = 0; task < tasks; ++task) fold_groups(&fold, task, 0);
}

}  // namespace tokensieve::kernels::TS_ISA
