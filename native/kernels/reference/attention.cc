// Attention by its formula: all probabilities of a row at once, everything summed in double.
#include "kernels/attention.h"

#include "kernels/reference/scores.h"

namespace tokensieve::kernels::reference {

namespace {

// A worker's part of the scratch: keys double [rows][d], p and mass double [rows], values float [rows][d].
size_t worker_bytes(const AttentionShape& shape, int rows) {
  const size_t d = static_cast<size_t>(shape.head_size), all = static_cast<size_t>(rows) * (d * 12 + 16);
  return (all + 63) / 64 * 64;
}

struct Call {
  const AttentionShape& shape;
  const AttentionJob* jobs;
  int count, rows;
  uint8_t* scratch;
};

void attend_row(const AttentionShape& shape, const AttentionJob& job, int head, int i, const double* keys,
                const float* values, double* p, double* mass) {
  const int group = shape.heads / shape.kv_heads, d = shape.head_size;
  const View& view = job.views[head / group];
  const float* q = job.q + static_cast<size_t>(i) * job.ldq + head * d;
  const double lse = probabilities(shape, view, keys, q, view.first[i], view.end[i], p);
  float* out = job.out + static_cast<size_t>(i) * job.ldo + head * d;
  for (int c = 0; c < d; c++) {
    double sum = 0;
    for (int j = view.first[i]; j < view.end[i]; j++) {
      if (p[j] > 0) sum += p[j] * static_cast<double>(values[j * d + c]);
    }
    out[c] = static_cast<float>(sum);
  }
  if (job.lse) job.lse[i * shape.heads + head] = static_cast<float>(lse);
  for (int j = view.first[i]; j < view.end[i]; j++) mass[j] += p[j] / group;
}

void attend_head(const Call& call, int index, int worker) {
  const AttentionShape& shape = call.shape;
  const AttentionJob& job = call.jobs[index / shape.kv_heads];
  const int kv = index % shape.kv_heads, group = shape.heads / shape.kv_heads;
  const View& view = job.views[kv];
  uint8_t* mine = call.scratch + worker_bytes(shape, call.rows) * static_cast<size_t>(worker);
  double* keys = reinterpret_cast<double*>(mine);
  double* p = keys + static_cast<size_t>(call.rows) * static_cast<size_t>(shape.head_size);
  double* mass = p + call.rows;
  float* values = reinterpret_cast<float*>(mass + call.rows);
  load_keys(shape, view, keys);
  load_side(Side::values, shape.head_size, view.values, view.value_pieces, values);
  for (int j = 0; j < view.rows; j++) mass[j] = 0;
  for (int i = 0; i < job.n; i++) {
    for (int g = 0; g < group; g++) attend_row(shape, job, kv * group + g, i, keys, values, p, mass);
  }
  for (int j = 0; view.mass && j < view.rows; j++) view.mass[j] += static_cast<float>(mass[j]);
}

}  // namespace

size_t attention_scratch(const AttentionShape& shape, const AttentionJob* jobs, int count, int threads) noexcept {
  return worker_bytes(shape, most_rows(shape, jobs, count)) * static_cast<size_t>(threads);
}

void attention(const AttentionShape& shape, const AttentionJob* jobs, int count, void* scratch, Team& team) noexcept {
  const Call call{shape, jobs, count, most_rows(shape, jobs, count), static_cast<uint8_t*>(scratch)};
  team.each(count * shape.kv_heads, [&](int index, int worker) { attend_head(call, index, worker); });
}

}  // namespace tokensieve::kernels::reference
