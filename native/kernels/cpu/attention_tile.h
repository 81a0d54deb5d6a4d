// Register tiles of prefill attention and of its probe: a few query rows against 16 or 32 keys, a few rows of
// probabilities against 16 or 64 channels. Every sum runs in the order of channels or keys, whatever else is in the
// tile.
#pragma once

#include "kernels/cpu/simd_codes.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

#if defined(TS_ISA_AVX512)
constexpr int kScoreRows = 12, kScoreBlocks = 2;    // 24 sums, 2 blocks of keys
constexpr int kWeightRows = 6, kWeightColumns = 4;  // 24 sums, 4 registers of channels
#else
constexpr int kScoreRows = 6, kScoreBlocks = 1;
constexpr int kWeightRows = 6, kWeightColumns = 1;
#endif

// s[r][16 b + lane] = q[r] . key; q [R][d], keys [B][d][16].
template <int R, int B>
void tile_scores(const float* q, const float* keys, int d, float* s, size_t lds) {
  F acc[R][B];
  TS_UNROLL for (int r = 0; r < R; r++) { TS_UNROLL for (int b = 0; b < B; b++) acc[r][b] = zero(); }
  for (int c = 0; c < d; c++) {
    F key[B];
    TS_UNROLL for (int b = 0; b < B; b++) key[b] = load(keys + (b * d + c) * 16);
    TS_UNROLL for (int r = 0; r < R; r++) {
      const F x = set1(q[r * d + c]);
      TS_UNROLL for (int b = 0; b < B; b++) acc[r][b] = fma(x, key[b], acc[r][b]);
    }
  }
  TS_UNROLL for (int r = 0; r < R; r++) {
    TS_UNROLL for (int b = 0; b < B; b++) store(s + static_cast<size_t>(r) * lds + 16 * b, acc[r][b]);
  }
}

// o[r][16 c + lane] += sum_j p[r][j] values[j], j < n; values [n][d], o [R][d].
template <int R, int C>
void tile_values(const float* p, size_t ldp, const float* values, int n, int d, float* o) {
  F acc[R][C];
  TS_UNROLL for (int r = 0; r < R; r++) { TS_UNROLL for (int c = 0; c < C; c++) acc[r][c] = load(o + r * d + 16 * c); }
  for (int j = 0; j < n; j++, values += d) {
    F value[C];
    TS_UNROLL for (int c = 0; c < C; c++) value[c] = load(values + 16 * c);
    TS_UNROLL for (int r = 0; r < R; r++) {
      const F x = set1(p[static_cast<size_t>(r) * ldp + static_cast<size_t>(j)]);
      TS_UNROLL for (int c = 0; c < C; c++) acc[r][c] = fma(x, value[c], acc[r][c]);
    }
  }
  TS_UNROLL for (int r = 0; r < R; r++) { TS_UNROLL for (int c = 0; c < C; c++) store(o + r * d + 16 * c, acc[r][c]); }
}

#if defined(TS_ISA_BF16)
// The same on pairs of bf16: keys [B][d/2][16][2], q [R][d].
template <int R, int B>
void tile_scores(const uint16_t* q, const uint16_t* keys, int d, float* s, size_t lds) {
  F acc[R][B];
  TS_UNROLL for (int r = 0; r < R; r++) { TS_UNROLL for (int b = 0; b < B; b++) acc[r][b] = zero(); }
  for (int c = 0; c < d; c += 2) {
    H key[B];
    TS_UNROLL for (int b = 0; b < B; b++) key[b] = load_h(keys + (b * d + c) * 16);
    TS_UNROLL for (int r = 0; r < R; r++) {
      const H x = broadcast_h(q + r * d + c);
      TS_UNROLL for (int b = 0; b < B; b++) acc[r][b] = dot_bf16(acc[r][b], key[b], x);
    }
  }
  TS_UNROLL for (int r = 0; r < R; r++) {
    TS_UNROLL for (int b = 0; b < B; b++) store(s + static_cast<size_t>(r) * lds + 16 * b, acc[r][b]);
  }
}

// values [n/2][d][2], n even.
template <int R, int C>
void tile_values(const uint16_t* p, size_t ldp, const uint16_t* values, int n, int d, float* o) {
  F acc[R][C];
  TS_UNROLL for (int r = 0; r < R; r++) { TS_UNROLL for (int c = 0; c < C; c++) acc[r][c] = load(o + r * d + 16 * c); }
  for (int j = 0; j < n; j += 2, values += 2 * d) {
    H value[C];
    TS_UNROLL for (int c = 0; c < C; c++) value[c] = load_h(values + 32 * c);
    TS_UNROLL for (int r = 0; r < R; r++) {
      const H x = broadcast_h(p + static_cast<size_t>(r) * ldp + static_cast<size_t>(j));
      TS_UNROLL for (int c = 0; c < C; c++) acc[r][c] = dot_bf16(acc[r][c], value[c], x);
    }
  }
  TS_UNROLL for (int r = 0; r < R; r++) { TS_UNROLL for (int c = 0; c < C; c++) store(o + r * d + 16 * c, acc[r][c]); }
}
#endif

// Scores of `rows` query rows (rounded up to a tile) against n keys, n a multiple of 32; Number: float or bf16 bits.
template <class Number>
void score_rows(const Number* q, int rows, const Number* keys, int n, int d, float* s, size_t lds) {
  for (int j = 0; j < n; j += 16 * kScoreBlocks) {
    const Number* block = keys + static_cast<size_t>(j) * static_cast<size_t>(d);
    for (int r = 0; r < rows; r += kScoreRows) {
      float* y = s + static_cast<size_t>(r) * lds + j;
      if (rows - r <= 4) {
        tile_scores<4, kScoreBlocks>(q + r * d, block, d, y, lds);
      } else {
        tile_scores<kScoreRows, kScoreBlocks>(q + r * d, block, d, y, lds);
      }
    }
  }
}

// o += p values for `rows` rows (rounded up to a tile), n a multiple of 2. pair: 2 where values are pairs, else 1.
template <class Number>
void weigh_rows(const Number* p, size_t ldp, int rows, const Number* values, int n, int d, float* o) {
  constexpr int pair = sizeof(Number) == 2 ? 2 : 1;
  for (int r = 0; r < rows; r += kWeightRows) {
    const Number* x = p + static_cast<size_t>(r) * ldp;
    float* y = o + r * d;
    int c = 0;
    for (; c + 16 * kWeightColumns <= d; c += 16 * kWeightColumns) {
      tile_values<kWeightRows, kWeightColumns>(x, ldp, values + pair * c, n, d, y + c);
    }
    for (; c < d; c += 16) tile_values<kWeightRows, 1>(x, ldp, values + pair * c, n, d, y + c);
  }
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
