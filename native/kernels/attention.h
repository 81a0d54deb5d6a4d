// Kernel attention: softmax(scale q K^T + bias) V over a ragged cache, with token drop; no attention matrix is stored.
//
// A job is the query rows of one session in one layer; a call takes the jobs of a batch. Every KV head of a job has its
// own rows (its own number of them, its own pages and types).
// heads = kv_heads * group; query head h reads KV head h / group; the group is computed together.
// Query row i sees the cache rows [first[i], end[i]) of a head, in cache order: the causal bound and a sliding window
// are both such a range (end[i] may be 0: output 0, lse -infinity).
//
// Softmax state is (m, l, O); ranges are split at fixed multiples of kSplit cache rows and merged in ascending order. A
// query row's result depends on the cache, its range and the path alone: not on the team, the batch, or the other query
// rows of its job. n > 4 rows take the prefill path (keys and values of a head expanded once into scratch, tiles of
// query rows), others the decode path (pages read directly).
//
// rope (a late rotation): where shape.cos is not null, keys are stored un-rotated and row j is rotated by the angles
// (cos, sin)[.][j] when read; the query rows come rotated by their own slots.
// By-products: lse[t][h] (natural log) where asked; mass[kv head][row] += mean over the group and sum over this job's
// query rows of the probability, on both paths.
// Error against the reference in double: f32 sums and exp to 2e-6 relative; keys and values as stored (exact). Where a
// product is of integers or bf16, its other factor is rounded:
//   decode path, quantized keys (not rotated when read): q to integers of 15 bits against the largest of 32 channels,
//     an error of 3.1e-5 of it at most, where a key's own is 4e-3 (q8_0); for kivi against the largest of the head,
//     times the page's scales; for q4_0 of 8 bits, 4e-3, where a key's own is 6e-2
//   decode path, quantized values: the probability times the row's scale to 15 bits against the largest of a split
//   prefill path, where int8 dots are instructions (avx512-vnni, neon-dotprod), of a head without an f32 piece and unless
//     the shape asks for `fine`: q, K and V to 8 bits against the largest of a row (of q and K after a Hadamard
//     transform, which no product notices), the probability times the value's factor to 8 bits (7 for neon) against the
//     largest of 128 cache rows: 2^-8 of what a row is at most; with unit variances 1e-2 of an output
//   prefill path of avx512-vnni-bf16 otherwise: q, K, V and the probabilities to bf16 where a head has no f32 piece
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/pool.h"
#include "kernels/kv_page.h"

namespace tokensieve::kernels {

constexpr int kSplit = 256;

// One KV head of one layer of one session.
struct View {
  const Piece* keys = nullptr;  // in row order; counts sum to rows
  const Piece* values = nullptr;  // in row order; cut at other rows than the keys may be
  int key_pieces = 0, value_pieces = 0;
  int rows = 0;
  const float* bias = nullptr;  // [rows], added to every score of that row, or null (log of a merged row's size;
      // -infinity: dropped)
  float* mass = nullptr;  // [rows] accumulator of attention mass, or null
  const int32_t* first = nullptr;  // [n] of the job, per query row
  const int32_t* end = nullptr;
};

struct AttentionJob {
  const float* q = nullptr;  // [n][ldq], head h at + h * head_size, rotated, not scaled
  size_t ldq = 0;
  int n = 0;
  const View* views = nullptr;  // [kv_heads]
  float* out = nullptr;  // [n][ldo], head h at + h * head_size; may not overlap q
  size_t ldo = 0;
  float* lse = nullptr;  // [n][heads] or null
};

struct AttentionShape {
  int heads = 0, kv_heads = 0, head_size = 0;
  float scale = 0;
  // late rotation: tables [rotated / 2][table_rows], angle of slot j at column j; null where keys are stored rotated
  const float* cos = nullptr;
  const float* sin = nullptr;
  int rotated = 0, table_rows = 0;
  bool fine = false;  // no products of int8 on the prefill path
};

// Bytes of scratch, which is 64-byte aligned; threads = team.size().
using AttentionScratch = size_t (*)(const AttentionShape& shape, const AttentionJob* jobs, int count,
                                    int threads) noexcept;
using Attention = void (*)(const AttentionShape& shape, const AttentionJob* jobs, int count, void* scratch,
                           Team& team) noexcept;

// Kernel attention_probe: probabilities themselves, for methods that look.
//   per_row: out[i][h][j], i < n, row stride heads * ldp, head stride ldp: probability of cache row j for query row i
//   and head h (0 outside its range).
//   otherwise: out[h][j] += sum over the query rows of the probability (head stride ldp).
// ldp >= the rows of every view. q, first, end as in a job (job.out, lse and View.mass are not used).
using AttentionProbe = void (*)(const AttentionShape& shape, const AttentionJob& job, bool per_row, float* out,
                                size_t ldp, void* scratch, Team& team) noexcept;
using AttentionProbeScratch = size_t (*)(const AttentionShape& shape, const AttentionJob& job, int threads) noexcept;

}  // namespace tokensieve::kernels
