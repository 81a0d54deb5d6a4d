// The probabilities themselves, one row of one head at a time.
#include "kernels/attention.h"
#include "kernels/reference/scores.h"

namespace tokensieve::kernels::reference {

namespace {

// A worker's part of the scratch: keys double [rows][d], p double [rows].
size_t worker_bytes(const AttentionShape& shape, int rows) {
  const size_t d = static_cast<size_t>(shape.head_size), all = static_cast<size_t>(rows) * (d + 1) * 8;
  return (all + 63) / 64 * 64;
}

}  // namespace

size_t attention_probe_scratch(const AttentionShape& shape, const AttentionJob& job, int threads) noexcept {
  return worker_bytes(shape, most_rows(shape, &job, 1)) * static_cast<size_t>(threads);
}

void attention_probe(const AttentionShape& shape, const AttentionJob& job, bool per_row, float* out, size_t ldp,
                     void* scratch, Team& team) noexcept {
  const int rows = most_rows(shape, &job, 1), group = shape.heads / shape.kv_heads;
  const size_t d = static_cast<size_t>(shape.head_size);
  team.each(shape.heads, [&](int head, int worker) {
    const View& view = job.views[head / group];
    uint8_t* mine = static_cast<uint8_t*>(scratch) + worker_bytes(shape, rows) * static_cast<size_t>(worker);
    double* keys = reinterpret_cast<double*>(mine);
    double* p = keys + static_cast<size_t>(rows) * d;
    load_keys(shape, view, keys);
    for (int i = 0; i < job.n; i++) {
      const float* q = job.q + static_cast<size_t>(i) * job.ldq + static_cast<size_t>(head) * d;
      probabilities(shape, view, keys, q, view.first[i], view.end[i], p);
      float* y = out + static_cast<size_t>(per_row ? i * shape.heads + head : head) * ldp;
      for (int j = 0; j < view.rows; j++) y[j] = static_cast<float>(p[j]) + (per_row ? 0.0f : y[j]);
    }
  });
}

}  // namespace tokensieve::kernels::reference
