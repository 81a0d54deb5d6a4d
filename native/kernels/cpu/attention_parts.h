// The parts of attention: a plan made by the calling thread (attention.cc), then tasks of two kinds. Decode: one head,
// a run of splits of kSplit cache rows, all query rows of its group at once. Prefill: heads opened into scratch, then
// tiles of query rows. Scores are kept in base 2: the query is scaled by scale * log2(e).
#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/kv_expand.h"

namespace tokensieve::kernels::TS_ISA {

constexpr float kLog2e = 1.44269504f, kLn2 = 0.693147181f;
constexpr float kLowest = -3.402823466e38f;  // below every score but -infinity
constexpr int kTileRows = 24;    // query rows (token, head of the group) of a prefill tile
constexpr int kTileKeys = 128;   // cache rows of a tile, counted from row 0
constexpr int kChunkRows = 256;  // cache rows that one task opens
constexpr int kMassTiles = 4;    // prefill tiles of a task where mass is asked for; they share a line of sums
constexpr size_t kScoreRow = kSplit + 32;  // floats of a row of scores; blocks of keys may write past the end

struct Range {
  int lo, hi;
};

namespace {

// Cache rows that some of n query rows sees; [0, 0) where none does.
inline Range seen(const View& view, int n) {
  Range all{view.rows, 0};
  for (int i = 0; i < n; i++) {
    if (view.end[i] <= view.first[i]) continue;
    all.lo = view.first[i] < all.lo ? view.first[i] : all.lo;
    all.hi = view.end[i] > all.hi ? view.end[i] : all.hi;
  }
  return all.lo < all.hi ? all : Range{0, 0};
}

inline int up(int n, int unit) { return (n + unit - 1) / unit; }

}  // namespace

struct DecodeHead {
  const AttentionJob* job;
  const View* view;
  int kv, rows;        // query rows: n * group, row i * group + g is head kv * group + g of token i
  int lo, hi;          // cache rows that some query row sees
  int split, splits;   // those of the cache that [lo, hi) touches
  int left;            // tasks not done; the last one merges
  float* out;          // [splits][rows][head_size], not normalized
  float* top;          // [rows][splits up to 16]: maxima
  float* sum;          // [rows][splits up to 16]: sums of exponentials
  float* p;            // [rows][splits * kSplit] exponentials where mass is asked for, or null
};

struct DecodeTask {
  int head, split, splits;
  Cursor keys, values;  // of the first split's first row
};

// What the rows of a head are opened to.
//         keys                          values
//   f32   [rows/16][head_size][16]      [rows][head_size]
//   bf16  [rows/16][head_size/2][16][2] [rows/2][head_size][2]
//   int8  [rows/16][head_size/4][16][4] [rows/4][head_size][4], each row against its largest
enum class Form : uint8_t { f32, bf16, int8 };
constexpr int number_bytes(Form form) { return form == Form::f32 ? 4 : form == Form::bf16 ? 2 : 1; }

// Of rows in int8: a key is its codes times `key`; a value its codes times 2^log, 1 / 2^log = `part`. [rows] each.
struct RowScales {
  float *key, *log, *part;
};

struct PrefillHead {
  const AttentionJob* job;
  const View* view;
  int kv;
  int base, end;  // opened cache rows: base a multiple of kTileKeys, end - base of 32
  Form form;
  uint8_t *keys, *values;  // 0 behind the last row
  RowScales scales;  // int8
  Cursor key_start, value_start;  // of row base
  float* mass;  // [runs of kMassTiles tiles][end - base] sums over their query rows, or null where nobody asks
};

struct Part {
  int head, index;  // a prefill head and its chunk or tile (or run of tiles, where it sums mass)
};

struct Plan {
  const AttentionShape* shape;
  int group;
  DecodeHead* decode;
  DecodeTask* tasks;
  PrefillHead* prefill;
  Part *chunks, *tiles;
  int task_count, chunk_count, tile_count;
  int* taken;  // decode tasks that a worker has taken
  int mass_rows;  // the most cache rows that a head which sums mass opens; 0: none does
  uint8_t* workers;
  size_t worker_bytes;
};

// Numbers of floats that a worker's part of the scratch must hold.
size_t decode_floats(const AttentionShape& shape, int rows) noexcept;
// rows: the most cache rows that a head which sums mass opens.
size_t prefill_floats(const AttentionShape& shape, int mass_rows) noexcept;

// Decode tasks are taken by the workers themselves, each one shortly before the last is done: so the keys that a task
// begins with are on their way. Returns the task taken; there is none from task_count on.
int take_decode_task(const Plan& plan) noexcept;
int run_decode_task(const Plan& plan, int index, int worker) noexcept;
void open_chunk(const Plan& plan, int index) noexcept;
void run_tile(const Plan& plan, int index, int worker) noexcept;

// Rows of a page that a split reads, and where they stand in it. ahead: what will be read some pages later.
struct Slice {
  Piece piece;
  int column;
  const uint8_t* ahead;
};

// Query rows in integers, 32 channels to a scale: what exact sums over quantized keys take. For q4_0 they are multiples
// of 128: with 8 bits their error is a tenth of that of the keys.
struct DotQueries {
  uint8_t *units_4, *units_8;  // [rows][2 head_size] bytes, as attention_dots.h packs them; for q4_0 and q8_0
  float* scales;  // [rows][head_size / 32]
  int32_t *zeros_4, *zeros_8;  // [rows][head_size / 32]: sums of the integers times the codes' zero
};
void quantize_queries(const float* q, int head_size, int rows, const DotQueries& to) noexcept;

// s[r][j] = q[r] . row first + j of a page, j < piece.count; q [rows][head_size]. Rows of s lie
// kScoreRow apart; up to 31 floats more may be written. key_scores: f32, f16, bf16; key_dots: the quantized types.
void key_scores(const Slice& slice, int head_size, const float* q, int rows, float* s) noexcept;
void key_dots(const Slice& slice, int head_size, const float* q, const DotQueries& numbers, int rows,
              float* s) noexcept;
// o[r] += sum_j p[r][j] * row j of the slices; o [rows][head_size], rows of p lie kScoreRow apart, columns as the
// slices say. value_sums: slices of one type, f32, f16 or bf16; value_dots: all slices of a split, of quantized types.
void value_sums(const Slice* slices, int count, int head_size, const float* p, int rows, float* o) noexcept;
void value_dots(const Slice* slices, int count, int head_size, const float* p, int rows, float* o) noexcept;

}  // namespace tokensieve::kernels::TS_ISA
