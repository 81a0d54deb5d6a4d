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
  const float* x;
  size_t ldx;
  int d;
  const int32_t* at;
  int n, rows, columns;  // of A, of B
  int32_t* partner;
  float* similarity;
  float* a;        // [rows up to kTileRows][d]
  float* b;        // [columns up to 32 / 16][d][16]
  float* workers;  // each [kTileRows][kColumns]
};

size_t make_match(int n, int d, float* scratch, Match* m) {
  m->d = d;
  m->n = n;
  m->rows = (n + 1) / 2;
  m->columns = n / 2;
  const size_t width = static_cast<size_t>(d);
  const size_t a = static_cast<size_t>(up(m->rows, kTileRows) * kTileRows) * width;
  const size_t b = static_cast<size_t>(up(m->columns, 32) * 32) * width;
  if (scratch) {
    m->a = scratch;
    m->b = scratch + a;
    m->workers = scratch + a + b;
  }
  return a + b;
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

void make_units(void* context, int task, int) {
  const Match& m = *static_cast<const Match*>(context);
  const int end = (task + 1) * kRowsPerTask < m.n ? (task + 1) * kRowsPerTask : m.n;
  for (int i = task * kRowsPerTask; i < end; i++) {
    const float* x = m.x + static_cast<size_t>(m.at[i]) * m.ldx;
    const float factor = unit_factor(x, m.d);
    const int row = i / 2;
    float* y = i % 2 == 0 ? m.a + static_cast<size_t>(row) * static_cast<size_t>(m.d)
                          : m.b + static_cast<size_t>(row / 16 * m.d) * 16 + row % 16;
    const int step = i % 2 == 0 ? 1 : 16;
    for (int c = 0; c < m.d; c++) y[c * step] = x[c] * factor;
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

void match_tile(void* context, int tile, int worker) {
  const Match& m = *static_cast<const Match*>(context);
  const int row0 = tile * kTileRows, rows = m.rows - row0 < kTileRows ? m.rows - row0 : kTileRows;
  const float* a = m.a + static_cast<size_t>(row0) * static_cast<size_t>(m.d);
  float* s = m.workers + static_cast<size_t>(worker) * kTileRows * kColumns;
  float best[kTileRows];
  for (int r = 0; r < rows; r++) best[r] = kLowest;
  for (int from = 0; from < m.columns; from += kColumns) {
    const int n = m.columns - from < kColumns ? m.columns - from : kColumns;
    const float* b = m.b + static_cast<size_t>(from) * static_cast<size_t>(m.d);
    score_rows(a, rows, b, up(n, 32) * 32, m.d, s, kColumns);
    for (int r = 0; r < rows; r++) {
      float value;
      const int j = largest_of(s + r * kColumns, n, &value);
      if (value <= best[r]) continue;
      best[r] = value;
      m.partner[row0 + r] = from + j;
    }
  }
  for (int r = 0; r < rows; r++) m.similarity[row0 + r] = best[r];
}

}  // namespace

size_t partners_scratch(int n, int d, int threads) noexcept {
  Match m{};
  return 4 * (make_match(n, d, nullptr, &m) + static_cast<size_t>(threads) * kTileRows * kColumns);
}

void partners(const float* x, size_t ldx, int d, const int32_t* at, int n, int32_t* partner, float* similarity,
              void* scratch, Team& team) noexcept {
  Match m{};
  m.x = x;
  m.ldx = ldx;
  m.at = at;
  m.partner = partner;
  m.similarity = similarity;
  make_match(n, d, static_cast<float*>(scratch), &m);
  const int filled = m.rows / kTileRows * kTileRows, blocks = m.columns / 32 * 32;  // what no row fills is read too
  __builtin_memset(m.a + static_cast<size_t>(filled * d), 0, 4 * static_cast<size_t>(m.b - m.a - filled * d));
  __builtin_memset(m.b + static_cast<size_t>(blocks * d), 0, 4 * static_cast<size_t>(m.workers - m.b - blocks * d));
  team.run(up(n, kRowsPerTask), make_units, &m);
  team.run(up(m.rows, kTileRows), match_tile, &m);
}

}  // namespace tokensieve::kernels::TS_ISA
