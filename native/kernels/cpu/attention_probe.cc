// Probabilities for methods that look, in f32 throughout: the keys a head's query rows see are opened once, then tiles
// of query rows (token, head of the group) are scored over all of them. Column sums are gathered per run of kRunRows
// query rows and added in the order of the runs, so that they do not depend on the team.
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/functions.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

constexpr int kRunRows = 2 * kTileRows;  // few enough that the newest rows of a prompt are work for several threads

// What the scratch holds, by numbers of floats.
struct Probe {
  const AttentionShape* shape;
  const AttentionJob* job;
  bool per_row;
  float* out;
  size_t ldp;
  int group, rows, span;  // query rows of a KV head; most cache rows seen in a head, a multiple of 32
  int runs, chunks;
  float* keys;      // [kv_heads][span/16][head_size][16]
  float* sums;      // [heads][runs][span]
  float* workers;   // each q [kTileRows][head_size], s [kTileRows][span]
};

Range span_of(const View& view, int n) {
  const Range rows = seen(view, n);
  return {rows.lo / 32 * 32, up(rows.hi, 32) * 32};
}

size_t worker_floats(const Probe& p) { return static_cast<size_t>(kTileRows) * (p.shape->head_size + p.span); }

size_t make_probe(const AttentionShape& shape, const AttentionJob& job, int threads, float* scratch, Probe* p) {
  p->shape = &shape;
  p->job = &job;
  p->group = shape.heads / shape.kv_heads;
  p->rows = job.n * p->group;
  p->span = 0;
  for (int h = 0; h < shape.kv_heads; h++) {
    const Range rows = span_of(job.views[h], job.n);
    p->span = rows.hi - rows.lo > p->span ? rows.hi - rows.lo : p->span;
  }
  p->runs = up(p->rows, kRunRows);
  p->chunks = up(p->span, kChunkRows);
  const size_t span = static_cast<size_t>(p->span);
  const size_t keys = span * static_cast<size_t>(shape.kv_heads * shape.head_size);
  const size_t sums = span * static_cast<size_t>(shape.heads * p->runs);
  if (scratch) {
    p->keys = scratch;
    p->sums = scratch + keys;
    p->workers = scratch + keys + sums;
  }
  return 4 * (keys + sums + worker_floats(*p) * static_cast<size_t>(threads));
}

float* keys_of(const Probe& p, int kv) {
  return p.keys + static_cast<size_t>(p.span) * static_cast<size_t>(kv * p.shape->head_size);
}

void open_some(void* context, int index, int) {
  const Probe& p = *static_cast<const Probe*>(context);
  const int kv = index / p.chunks, d = p.shape->head_size;
  const View& view = p.job->views[kv];
  const Range rows = span_of(view, p.job->n);
  const int from = rows.lo + index % p.chunks * kChunkRows;
  const int end = from + kChunkRows < rows.hi ? from + kChunkRows : rows.hi;
  Cursor at{0, from};
  for (int row = from; row < end && row < view.rows; row += 16) {
    const int n = view.rows - row < 16 ? view.rows - row : 16;
    at = open_keys(*p.shape, view, at, row, n, keys_of(p, kv) + static_cast<size_t>(row - rows.lo) * d);
  }
}

// Scores s of a query row, n of them from cache row `from` on, -> probabilities; 0 where it does not see.
void normalize(float* s, int n, int from, const View& view, int i) {
  const int first = view.first[i] - from, end = view.end[i] - from;
  for (int j = 0; view.bias && j < n && from + j < view.rows; j += 16) {
    const int rest = view.rows - from - j;
    const F b = rest < 16 ? load_part(view.bias + from + j, rest) : load(view.bias + from + j);
    store(s + j, fma(b, set1(kLog2e), load(s + j)));
  }
  for (int j = 0; j < first && j < n; j++) s[j] = -__builtin_inff();
  for (int j = end > 0 ? end : 0; j < n; j++) s[j] = -__builtin_inff();
  F high = set1(kLowest), sum = zero();
  for (int j = 0; j < n; j += 16) high = max(high, load(s + j));
  const F top = set1(reduce_max(high));
  for (int j = 0; j < n; j += 16) {
    const F e = exp2(sub(load(s + j), top));
    store(s + j, e);
    sum = add(sum, e);
  }
  const float total = reduce_add(sum);
  const F factor = set1(total > 0 ? 1 / total : 0);
  for (int j = 0; j < n; j += 16) store(s + j, mul(load(s + j), factor));
}

void put_row(const Probe& p, const Range& span, int i, int head, const float* s) {
  const int rows = p.job->views[head / p.group].rows;
  float* y = p.out + static_cast<size_t>(i * p.shape->heads + head) * p.ldp;
  for (int j = 0; j < span.lo; j++) y[j] = 0;
  for (int j = span.lo; j < span.hi && j < rows; j++) y[j] = s[j - span.lo];
  for (int j = span.hi; j < rows; j++) y[j] = 0;
}

void add_row(const Probe& p, int head, int run, int n, const float* s) {
  float* y = p.sums + static_cast<size_t>(head * p.runs + run) * static_cast<size_t>(p.span);
  for (int j = 0; j < n; j += 16) store(y + j, add(load(y + j), load(s + j)));
}

void probe_tile(const Probe& p, int kv, int row0, int rows, float* q) {
  const int d = p.shape->head_size;
  const View& view = p.job->views[kv];
  const Range span = span_of(view, p.job->n);
  float* s = q + kTileRows * d;
  const F scale = set1(p.shape->scale * kLog2e);
  int end = 0;
  for (int r = 0; r < rows; r++) {
    const int i = (row0 + r) / p.group, column = (kv * p.group + (row0 + r) % p.group) * d;
    const float* x = p.job->q + static_cast<size_t>(i) * p.job->ldq + column;
    for (int c = 0; c < d; c += 16) store(q + r * d + c, mul(load(x + c), scale));
    end = view.end[i] > end ? view.end[i] : end;
  }
  const int visible = up(end - span.lo > 0 ? end - span.lo : 0, 32) * 32;  // what no row of the tile sees is not scored
  score_rows(q, rows, keys_of(p, kv), visible, d, s, static_cast<size_t>(p.span));
  for (int r = 0; r < rows; r++) {
    const int i = (row0 + r) / p.group, head = kv * p.group + (row0 + r) % p.group;
    float* line = s + static_cast<size_t>(r) * static_cast<size_t>(p.span);
    normalize(line, visible, span.lo, view, i);
    if (p.per_row) {
      put_row(p, {span.lo, span.lo + visible}, i, head, line);
    } else {
      add_row(p, head, (row0 + r) / kRunRows, visible, line);
    }
  }
}

void probe_run(void* context, int index, int worker) {
  const Probe& p = *static_cast<const Probe*>(context);
  const int kv = index / p.runs, run = index % p.runs;
  float* desk = p.workers + worker_floats(p) * static_cast<size_t>(worker);
  for (int g = 0; !p.per_row && g < p.group; g++) {
    float* y = p.sums + static_cast<size_t>((kv * p.group + g) * p.runs + run) * static_cast<size_t>(p.span);
    for (int j = 0; j < p.span; j += 16) store(y + j, zero());
  }
  const int end = (run + 1) * kRunRows < p.rows ? (run + 1) * kRunRows : p.rows;
  for (int row = run * kRunRows; row < end; row += kTileRows) {
    probe_tile(p, kv, row, end - row < kTileRows ? end - row : kTileRows, desk);
  }
}

void add_runs(void* context, int head, int) {
  const Probe& p = *static_cast<const Probe*>(context);
  const View& view = p.job->views[head / p.group];
  const Range span = span_of(view, p.job->n);
  const int end = span.hi < view.rows ? span.hi : view.rows;
  float* y = p.out + static_cast<size_t>(head) * p.ldp;
  for (int run = 0; run < p.runs; run++) {
    const float* s = p.sums + static_cast<size_t>(head * p.runs + run) * static_cast<size_t>(p.span);
    for (int j = span.lo; j < end; j++) y[j] += s[j - span.lo];
  }
}

}  // namespace

size_t attention_probe_scratch(const AttentionShape& shape, const AttentionJob& job, int threads) noexcept {
  Probe p{};
  return make_probe(shape, job, threads, nullptr, &p);
}

void attention_probe(const AttentionShape& shape, const AttentionJob& job, bool per_row, float* out, size_t ldp,
                     void* scratch, Team& team) noexcept {
  Probe p{};
  make_probe(shape, job, team.size(), static_cast<float*>(scratch), &p);
  p.per_row = per_row;
  p.out = out;
  p.ldp = ldp;
  if (p.chunks > 0) team.run(shape.kv_heads * p.chunks, open_some, &p);
  if (p.runs > 0) team.run(shape.kv_heads * p.runs, probe_run, &p);
  if (!per_row) team.run(shape.heads, add_runs, &p);
}

}  // namespace tokensieve::kernels::TS_ISA
