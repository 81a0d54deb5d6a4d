// Unit rows first: A as it lies, B turned into blocks of 16 rows, as attention keeps its keys. Then tiles of rows of A
// run over blocks of B in the register tiles of attention; only the best of a block is looked for.
#include "kernels/partners.h"

#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/functions.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

constexpr int kRowsPerTask = 256;  // that are made unit rows
constexpr int kColumns = 512;      // rows of B that a tile is compared with at once

struct Match {
  PartnersJob job;
  int32_t* partner;
  float* similarity;
  float* a;        // [sides][rows up to kTileRows][d]
  float* b;        // [sides][columns up to 32 / 16][d][16]
  float* workers;  // each [sides][kTileRows][kColumns]
  size_t a_side, b_side;
};

size_t worker_size(const PartnersJob& job) { return static_cast<size_t>(job.sides) * kTileRows * kColumns; }

size_t make_match(const PartnersJob& job, float* scratch, Match* m) {
  const size_t width = static_cast<size_t>(job.d), sides = static_cast<size_t>(job.sides);
  m->job = job;
  m->a_side = static_cast<size_t>(up(job.rows, kTileRows) * kTileRows) * width;
  m->b_side = static_cast<size_t>(up(job.columns, 32) * 32) * width;
  if (scratch) {
    m->a = scratch;
    m->b = scratch + sides * m->a_side;
    m->workers = m->b + sides * m->b_side;
  }
  return sides * (m->a_side + m->b_side);
}

TS_INLINE F load_some(const float* x, int n) { return n < 16 ? load_part(x, n) : load(x); }

float unit_factor(const float* x, int d) {
  F sum = zero();
  for (int c = 0; c < d; c += 16) {
    const F v = load_some(x + c, d - c);
    sum = fma(v, v, sum);
  }
  const float squares = reduce_add(sum);
  return squares > 0 ? 1 / __builtin_sqrtf(squares) : 0;
}

// y[c * step] = x[c] / |x|.
void make_unit(const float* x, int d, float* y, int step) {
  const float factor = unit_factor(x, d);
  for (int c = 0; c < d; c++) y[c * step] = x[c] * factor;
}

// Rows [task * kRowsPerTask, ...) of A and then B, of every side.
void make_units(void* context, int task, int) {
  const Match& m = *static_cast<const Match*>(context);
  const PartnersJob& job = m.job;
  const int all = job.rows + job.columns, past = (task + 1) * kRowsPerTask, end = past < all ? past : all;
  for (int s = 0; s < job.sides; s++) {
    float *a = m.a + static_cast<size_t>(s) * m.a_side, *b = m.b + static_cast<size_t>(s) * m.b_side;
    for (int i = task * kRowsPerTask; i < end; i++) {
      const int j = i - job.rows;
      const float* x = job.x[s] + static_cast<size_t>(j < 0 ? job.a[i] : job.b[j]) * job.ldx;
      if (j < 0) {
        make_unit(x, job.d, a + static_cast<size_t>(i) * static_cast<size_t>(job.d), 1);
      } else {
        make_unit(x, job.d, b + static_cast<size_t>(j / 16 * job.d) * 16 + j % 16, 16);
      }
    }
  }
}

// The first place of the largest of s [n]; n <= kColumns.
int largest_of(const float* s, int n, float* value) {
  F high = set1(kLowest);
  int j = 0;
  for (; j + 16 <= n; j += 16) high = max(high, load(s + j));
  float best = reduce_max(high);
  for (; j < n; j++) best = s[j] > best ? s[j] : best;
  *value = best;
  for (j = 0; j < n; j++) {
    if (s[j] == best) return j;
  }
  return 0;
}

// s [n] times t [n], each 0 where it is negative; n up to a multiple of 16.
void multiply(float* s, const float* t, int n) {
  for (int j = 0; j < n; j += 16) store(s + j, mul(max(load(s + j), zero()), max(load(t + j), zero())));
}

void match_tile(void* context, int tile, int worker) {
  const Match& m = *static_cast<const Match*>(context);
  const PartnersJob& job = m.job;
  const int row0 = tile * kTileRows, rows = job.rows - row0 < kTileRows ? job.rows - row0 : kTileRows;
  const size_t width = static_cast<size_t>(job.d);
  float* s = m.workers + static_cast<size_t>(worker) * worker_size(job);
  float best[kTileRows];
  for (int r = 0; r < rows; r++) best[r] = kLowest;
  for (int from = 0; from < job.columns; from += kColumns) {
    const int n = job.columns - from < kColumns ? job.columns - from : kColumns;
    for (int side = 0; side < job.sides; side++) {
      const float* a = m.a + static_cast<size_t>(side) * m.a_side + static_cast<size_t>(row0) * width;
      const float* b = m.b + static_cast<size_t>(side) * m.b_side + static_cast<size_t>(from) * width;
      score_rows(a, rows, b, up(n, 32) * 32, job.d, s + side * kTileRows * kColumns, kColumns);
    }
    for (int r = 0; r < rows; r++) {
      float* line = s + r * kColumns;
      if (job.sides > 1) multiply(line, line + kTileRows * kColumns, n);
      float value;
      const int j = largest_of(line, n, &value);
      if (value <= best[r]) continue;
      best[r] = value;
      m.partner[row0 + r] = from + j;
    }
  }
  for (int r = 0; r < rows; r++) m.similarity[row0 + r] = best[r];
}

}  // namespace

size_t partners_scratch(const PartnersJob& job, int threads) noexcept {
  Match m{};
  return 4 * (make_match(job, nullptr, &m) + static_cast<size_t>(threads) * worker_size(job));
}

void partners(const PartnersJob& job, int32_t* partner, float* similarity, void* scratch, Team& team) noexcept {
  Match m{};
  m.partner = partner;
  m.similarity = similarity;
  make_match(job, static_cast<float*>(scratch), &m);
  // What no row fills is read too.
  const size_t width = static_cast<size_t>(job.d);
  const size_t a = static_cast<size_t>(job.rows / kTileRows * kTileRows) * width;
  const size_t b = static_cast<size_t>(job.columns / 32 * 32) * width;
  for (int s = 0; s < job.sides; s++) {
    __builtin_memset(m.a + static_cast<size_t>(s) * m.a_side + a, 0, 4 * (m.a_side - a));
    __builtin_memset(m.b + static_cast<size_t>(s) * m.b_side + b, 0, 4 * (m.b_side - b));
  }
  team.run(up(job.rows + job.columns, kRowsPerTask), make_units, &m);
  team.run(up(job.rows, kTileRows), match_tile, &m);
}

}  // namespace tokensieve::kernels::TS_ISA
