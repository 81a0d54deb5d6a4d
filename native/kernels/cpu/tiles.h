// How a product is cut into tiles, the same for every type of weight and every instruction set.
//
// Few tokens (decode): a task is a range of panels, each read once, straight from its stream.
// Many (prefill): a task is a few pairs of panels (32 rows) and a chunk of tokens, which goes through slices of the
// columns; a slice of the pair is unpacked once, where the form needs it, and stays in the first-level cache while the
// chunk's tiles of tokens pass. Sums wait between slices in `sums`, so that every output is one chain of additions in
// ascending order of the column, whatever the path.
#pragma once

#include "kernels/cpu/panel.h"
#include "kernels/matmul.h"

namespace tokensieve::kernels::TS_ISA {

struct Call {
  const PackedMatrix* w;
  const Prepared* x;
  const float* bias;
  bool accumulate;
  float* out;
  size_t ldo;
};

void matmul_float(const Call& call, Team& team) noexcept;

namespace {

constexpr int kChunk = 192;  // tokens: a multiple of every tile
constexpr int kNear = 6;  // chunks that take their turn at a pair before the next pair: it is read from memory once
constexpr int kStride = 32;  // sums [tokens][kStride]: two panels side by side

// Where a tile reads and adds: `depth` columns from column `from` of the weights as L has them, from column k of x.
struct Span {
  const uint8_t* const* panels;
  int from;
  const Prepared* x;
  int k, depth;
  bool first;  // sums start at zero
  int chunk;  // the first token of the chunk
  const float* scaled;  // what the form keeps of the chunk's activations, or null
};

// Tokens [token, token + count) in tiles of T, the rest in one smaller tile.
template <class M, class L, int P, int T>
void run_tiles(const Span& span, int token, int count, float* sums) {
  for (; count >= T; count -= T, token += T, sums += T * kStride) M::template tile<L, P, T>(span, token, sums);
  if constexpr (T > 1) {
    if (count > 0) run_tiles<M, L, P, T - 1>(span, token, count, sums);
  }
}

TS_INLINE void finish_row(const Call& c, float* out, int row, int count, F sum) {
  if (count >= 16) {
    if (c.bias) sum = add(sum, load(c.bias + row));
    store(out + row, c.accumulate ? add(load(out + row), sum) : sum);
  } else {
    if (c.bias) sum = add(sum, load_part(c.bias + row, count));
    store_part(out + row, c.accumulate ? add(load_part(out + row, count), sum) : sum, count);
  }
}

// sums [tokens][kStride] -> out, rows [row, row + rows), rows <= 32.
inline void finish(const Call& c, int row, int rows, int token, int tokens, const float* sums) {
  for (int t = 0; t < tokens; t++) {
    float* out = c.out + c.ldo * static_cast<size_t>(token + t);
    for (int p = 0; 16 * p < rows; p++)
      finish_row(c, out, row + 16 * p, rows - 16 * p, load(sums + kStride * t + 16 * p));
  }
}

// Forms that tiles read as they are.
struct SameSlice {
  const uint8_t* const* unpack(const uint8_t* const* packed, int, int) { return packed; }
  const float* scale_sums(const Prepared&, int, int, int, int) { return nullptr; }
};

struct Cut {
  const Call* call;
  size_t panel_bytes;
  int panels, per_task;  // per_task: panels, or pairs of panels
  int groups;  // tasks that cover all panels
  int chunks, tokens;  // of `tokens` each
};

template <class M>
void run_few(void* context, int index, int) {
  const Cut& cut = *static_cast<const Cut*>(context);
  const Call& c = *cut.call;
  const int from = index * cut.per_task, to = from + cut.per_task < cut.panels ? from + cut.per_task : cut.panels;
  for (int i = from; i < to; i++) {
    alignas(64) float sums[M::kFew * kStride];
    const uint8_t* panel = c.w->data + cut.panel_bytes * static_cast<size_t>(i);
    run_tiles<M, typename M::Packed, 1, M::kFew>({&panel, 0, c.x, 0, c.w->cols, true, 0, nullptr}, 0, c.x->n, sums);
    finish(c, 16 * i, c.w->rows - 16 * i < 16 ? c.w->rows - 16 * i : 16, 0, c.x->n, sums);
  }
}

// Two panels times one chunk of tokens.
template <class M>
void run_pair(const Call& c, const uint8_t* const* panels, int row, int token, int tokens) {
  alignas(64) float sums[kChunk * kStride];
  typename M::Scratch scratch;
  for (int k = 0; k < c.w->cols; k += M::kSlice) {
    const int depth = c.w->cols - k < M::kSlice ? c.w->cols - k : M::kSlice;
    const uint8_t* const* sliced = scratch.unpack(panels, k, depth);
    const float* scaled = scratch.scale_sums(*c.x, token, tokens, k, depth);
    const Span span{sliced, sliced == panels ? k : 0, c.x, k, depth, k == 0, token, scaled};
    for (int p = 0; p < 2; p += M::kPanels) {
      Span part = span;
      part.panels += p;
      run_tiles<M, typename M::Sliced, M::kPanels, M::kTokens>(part, token, tokens, sums + 16 * p);
    }
  }
  finish(c, row, c.w->rows - row < 32 ? c.w->rows - row : 32, token, tokens, sums);
}

// Tasks go by blocks of kNear chunks, in a block by groups of panels, in a group by chunks.
template <class M>
void run_many(void* context, int index, int) {
  const Cut& cut = *static_cast<const Cut*>(context);
  const Call& c = *cut.call;
  const int block = index / (cut.groups * kNear) * kNear, rest = index - block * cut.groups;
  const int near = cut.chunks - block < kNear ? cut.chunks - block : kNear;
  const int token = (block + rest % near) * cut.tokens;
  const int tokens = c.x->n - token < cut.tokens ? c.x->n - token : cut.tokens;
  const int pairs = (cut.panels + 1) / 2, from = rest / near * cut.per_task;
  const int to = from + cut.per_task < pairs ? from + cut.per_task : pairs;
  for (int i = from; i < to && tokens > 0; i++) {
    const int second = 2 * i + 1 < cut.panels ? 2 * i + 1 : 2 * i;  // an absent one is computed and not stored
    const uint8_t* const panels[2] = {c.w->data + cut.panel_bytes * static_cast<size_t>(2 * i),
                                      c.w->data + cut.panel_bytes * static_cast<size_t>(second)};
    run_pair<M>(c, panels, 32 * i, token, tokens);
  }
}

TS_INLINE int clamp(size_t x, int low, int high) {
  return x < static_cast<size_t>(low) ? low : x > static_cast<size_t>(high) ? high : static_cast<int>(x);
}

template <class M>
void multiply(const Call& call, Team& team) {
  const PackedMatrix& w = *call.w;
  const int n = call.x->n;
  if (n <= 0 || w.rows <= 0) return;
  Cut cut{&call, panel_bytes(w.type, w.cols), (w.rows + 15) / 16, 1, 1, 1, n};
  const size_t bytes = cut.panel_bytes, pairs = static_cast<size_t>(cut.panels + 1) / 2;
  if (n <= M::kFew) {  // a task reads about a thirtieth of the matrix, 32 to 256 KB
    const size_t task = static_cast<size_t>(clamp(bytes * static_cast<size_t>(cut.panels) / 30, 32768, 262144));
    cut.per_task = clamp(task / (bytes + 1), 1, cut.panels);
    return team.run((cut.panels + cut.per_task - 1) / cut.per_task, run_few<M>, &cut);
  }
  cut.chunks = (n + kChunk - 1) / kChunk;
  cut.tokens = ((n + cut.chunks - 1) / cut.chunks + 11) / 12 * 12;  // alike, in whole tiles
  const size_t work = 32 * static_cast<size_t>(w.cols) * static_cast<size_t>(n < cut.tokens ? n : cut.tokens);
  cut.per_task = clamp((size_t{1} << 20) / (work + 1), 1, static_cast<int>(pairs));  // about 2^20 multiply-adds a task
  cut.groups = (static_cast<int>(pairs) + cut.per_task - 1) / cut.per_task;
  team.run(cut.groups * cut.chunks, run_many<M>, &cut);
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
