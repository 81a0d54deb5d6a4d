// How a product is cut into tiles, the same for every type of weight and every instruction set.
//
// A task is a range of pairs of panels and a chunk of tokens. Two panels (32 rows), side by side where the registers
// allow, go through slices of the columns; at each slice the chunk's tiles of tokens pass. Sums wait between slices in
// `sums`, so that every output is one chain of additions in ascending order of the column, whatever the way:
//   Few      decode: each panel is read once, straight from its stream
//   Several  a batch of sessions: the same for more tokens, two panels at a time where the registers allow
//   Many     prefill: a slice of two panels is unpacked once, where the form needs it, and stays in the first-level cache
#pragma once

#include "kernels/cpu/activation.h"
#include "kernels/cpu/planes.h"
#include "kernels/cpu/rounding.h"
#include "kernels/matmul.h"

namespace tokensieve::kernels::TS_ISA {

struct Call {
  const PackedMatrix* w;
  const Prepared* x;
  const float* bias;
  bool accumulate;
  float* out;
  size_t ldo;
  const Activation* gate = nullptr;  // of matmul_gate and gate_prepare
  const Prepared* rounded = nullptr;  // of gate_prepare, in place of out
};

void matmul_float(const Call& call, Team& team) noexcept;

namespace {

constexpr int kNear = 6;  // chunks that take their turn at a pair before the next pair: it is read from memory once
constexpr int kStride = 32;  // sums [tokens][kStride]: two panels side by side

// Where a tile reads and adds: `depth` columns from column `from` of the weights as L has them, from column k of x, for
// rows [row, row + 16 panels).
struct Span {
  const Call* call;
  const uint8_t* const* panels;
  int from, k, depth, row;
  int chunk;  // the first token of the chunk
  const void* kept;  // what the form keeps of the chunk's activations at these columns, or null
  size_t kept_row;  // numbers a token
  size_t panel_bytes, skip;  // past the end of its panel a tile goes on `skip` bytes further
  float* pair;  // of gate_prepare, else null: columns of two pairs of panels, [tokens of the chunk][kStride]

  // Calls for `bytes` bytes from `to` in panel p, or as far in the next one that takes its place.
  template <int bytes>
  TS_INLINE void call_for(int p, const uint8_t* to) const {
    if (to >= panels[p] + panel_bytes) to += skip;
    TS_UNROLL for (int i = 0; i < bytes; i += 64) __builtin_prefetch(to + i);
  }
  TS_INLINE bool first() const { return k == 0; }  // sums start at zero
  TS_INLINE bool last() const { return k + depth == call->w->cols; }
};

// A way: panels side by side in a tile, tokens of a tile and of a chunk, columns of a slice. Chunks have more than
// `over` tokens. Panels go in pairs: of matmul_gate they are gate rows and up rows.
template <int wide, int tile, int over, int chunk, int slice>
struct Way {
  // How many bytes ahead a tile of T tokens calls for what it will read, if it is the first to read it: one or two
  // tokens wait for memory anyway.
  static constexpr int ahead(int tokens) { return chunk > 16 || tokens < 3 ? 0 : 2048; }
  static constexpr int kWide = wide, kTile = tile, kChunk = chunk, kSlice = slice;
  // The smallest tile when chunks are cut evenly.
  static constexpr int least() {
    int found = tile;
    for (int n = over + 1; n <= chunk; n++) {
      const int size = n / ((n + tile - 1) / tile);
      if (size < found) found = size;
    }
    return found;
  }
};

TS_INLINE void finish_row(const Call& c, float* out, int row, int count, F sum) {
  if (count >= 16) {
    if (c.bias) sum = add(sum, load(c.bias + row));
    store(out + row, c.accumulate ? add(load(out + row), sum) : sum);
  } else {
    if (c.bias) sum = add(sum, load_part(c.bias + row, count));
    store_part(out + row, c.accumulate ? add(load_part(out + row, count), sum) : sum, count);
  }
}

TS_INLINE F activated(Activation act, F a) {
  switch (act) {
    case Activation::silu: return Silu::of(a);
    case Activation::gelu_tanh: return GeluTanh::of(a);
    case Activation::quick_gelu: return QuickGelu::of(a);
    default: return Gelu::of(a);
  }
}

// A pair of panels, the second of which may still have to come.
inline __attribute__((noinline)) void finish_gated(const Span& span, int panels, int token, int tokens,
                                                   const float* sums) {
  const Call& c = *span.call;
  const int row = span.row / 32 * 32;
  if (span.row + 16 * panels < row + 32) return;
  sums -= span.row - row;
  const size_t ldo = span.pair ? kStride : c.ldo;
  float* out = span.pair ? span.pair + kStride * (token - span.chunk) + row / 2 % kStride
                         : c.out + ldo * static_cast<size_t>(token) + row / 2;
  for (int t = 0; t < tokens; t++, sums += kStride, out += ldo) {
    F gate = load(sums), up = load(sums + 16);
    if (c.bias) gate = add(gate, load(c.bias + row)), up = add(up, load(c.bias + row + 16));
    store(out, mul(activated(*c.gate, gate), up));
  }
}

// 32 columns from column k on, of tokens [token, token + tokens), given as x [tokens][32].
inline __attribute__((noinline)) void round_pair(const Prepared& p, int token, int tokens, int k, const float* x) {
  const size_t cols = static_cast<size_t>(p.cols), row = static_cast<size_t>(token), at = cols * row + k;
  if (p.bf16) {
    for (int t = 0; t < tokens; t++) round_row(x + 32 * t, 32, p.bf16 + at + cols * t);
  }
  if (!p.q) return;
  alignas(64) int8_t q[16 * 32];
  alignas(64) float scale[16];
  alignas(64) int16_t sum[32];
  for (int from = 0; from < tokens; from += 16) {
    const int count = tokens - from < 16 ? tokens - from : 16;
    if (count == 16) quantize_16_blocks(x + 32 * from, q, scale, sum);
    for (int t = 0; t < count; t++) {
      const size_t to = at + cols * (from + t);
      if (count < 16) quantize_block(x + 32 * (from + t), q + 32 * t, scale + t, sum + 2 * t);
      __builtin_memcpy(p.q + to, q + 32 * t, 32);
      p.scale[to / 32] = scale[t];
      __builtin_memcpy(p.sum + to / 16, sum + 2 * t, 4);
    }
  }
}

// The sums of `tokens` tokens, kStride apart -> out, of at most 16 * panels rows.
inline void finish(const Span& span, int panels, int token, int tokens, const float* sums) {
  const Call& c = *span.call;
  if (c.gate) return finish_gated(span, panels, token, tokens, sums);
  for (int t = 0; t < tokens; t++) {
    float* out = c.out + c.ldo * static_cast<size_t>(token + t);
    for (int p = 0; p < panels && span.row + 16 * p < c.w->rows; p++) {
      const int row = span.row + 16 * p;
      finish_row(c, out, row, c.w->rows - row, load(sums + kStride * t + 16 * p));
    }
  }
}

template <class M, class W, class L, int T>
TS_INLINE void run_tile(const Span& span, int token, int size, float* sums) {
  if constexpr (T > W::least()) {
    if (size < T) return run_tile<M, W, L, T - 1>(span, token, size, sums);
  }
  M::template tile<L, W::kWide, T, W::ahead(T)>(span, token, sums);
}

// Lines of gate_prepare that a tile will write are called for before its work begins, at the second pair of panels: the
// columns of the first wait for it.
inline __attribute__((noinline)) void expect_pair(const Prepared& p, int row, int token, int tokens) {
  if (row % 64 < 32 || !p.q) return;
  size_t at = static_cast<size_t>(p.cols) * static_cast<size_t>(token) + static_cast<size_t>(row / 64 * 32);
  for (int t = 0; t < tokens; t++, at += static_cast<size_t>(p.cols))
    __builtin_prefetch(p.q + at, 1), __builtin_prefetch(p.scale + at / 32, 1), __builtin_prefetch(p.sum + at / 16, 1);
}

// The lines of `out` that a tile will write are called for before its work begins.
template <int P>
TS_INLINE void expect(const Span& span, int token, int tokens) {
  const Call& c = *span.call;
  if (c.rounded) return expect_pair(*c.rounded, span.row, token, tokens);
  const int column = c.gate ? span.row / 2 : span.row;
  for (int t = 0; t < tokens; t++) {
    const float* out = c.out + c.ldo * static_cast<size_t>(token + t) + column;
    TS_UNROLL for (int p = 0; p < P; p++) __builtin_prefetch(out + 16 * p, 1);
  }
}

// Tokens [token, token + count) in tiles as alike as can be. Results leave tile by tile.
template <class M, class W, class L>
TS_INLINE void run_tiles(const Span& span, int token, int count, float* sums) {
  for (int tiles = (count + W::kTile - 1) / W::kTile; tiles > 0; tiles--) {
    const int size = (count + tiles - 1) / tiles;
    if (span.last()) expect<W::kWide>(span, token, size);
    run_tile<M, W, L, W::kTile>(span, token, size, sums);
    if (span.last()) finish(span, W::kWide, token, size, sums);
    token += size, count -= size, sums += size * kStride;
  }
}

// Forms that tiles read as they are, and that keep nothing.
struct SameSlice {
  const uint8_t* const* unpack(const Call&, const uint8_t* const* packed, int, int) { return packed; }
};
struct KeepNothing {
  static constexpr size_t kRow = 0;
  const void* keep(const Prepared&, int, int, int, int) { return nullptr; }
};

struct Cut {
  const Call* call;
  size_t panel_bytes;
  int units, per_task;  // units of two panels
  int groups, chunks;  // tasks: groups that cover all units, times chunks of the tokens
};

// Two panels from panel `first` on times one chunk of tokens.
template <class M, class W, class L, class Scratch, class Keep>
void run_unit(const Cut& cut, int first, int token, int tokens, Scratch& scratch, Keep& keep, float* pair) {
  alignas(64) float sums[W::kChunk * kStride];
  const Call& c = *cut.call;
  const uint8_t* panels[2];
  for (int p = 0; p < 2; p++) {  // one past the last is computed from the last and not stored
    const int panel = 16 * (first + p) < c.w->rows ? first + p : first;
    panels[p] = c.w->data + cut.panel_bytes * static_cast<size_t>(panel);
  }
  const int slices = (c.w->cols + W::kSlice - 1) / W::kSlice;
  const int even = ((c.w->cols + slices - 1) / slices + M::kStep - 1) / M::kStep * M::kStep;
  for (int k = 0; k < c.w->cols; k += even) {
    const int depth = c.w->cols - k < even ? c.w->cols - k : even;
    const uint8_t* const* sliced = scratch.unpack(c, panels, k, depth);
    const void* kept = keep.keep(*c.x, token, tokens, k, depth);
    Span span{&c,         sliced,          sliced == panels ? k : 0,         k,   depth, 16 * first, token, kept,
              Keep::kRow, cut.panel_bytes, (W::kWide - 1) * cut.panel_bytes, pair};
    for (int p = 0; p < 2 && span.row < c.w->rows; p += W::kWide, span.panels += W::kWide, span.row += 16 * W::kWide)
      run_tiles<M, W, L>(span, token, tokens, sums + 16 * p);
  }
  if (pair && first % 4 == 2) round_pair(*c.rounded, token, tokens, 8 * first - 16, pair);
}

// Tasks go by blocks of kNear chunks, in a block by groups of panels, in a group by chunks.
template <class M, class W, class L, class Scratch>
void run_task(void* context, int index, int) {
  const Cut& cut = *static_cast<const Cut*>(context);
  const int n = cut.call->x->n, block = index / (cut.groups * kNear) * kNear, rest = index - block * cut.groups;
  const int near = cut.chunks - block < kNear ? cut.chunks - block : kNear;
  const int64_t chunk = block + rest % near;
  const int token = static_cast<int>(n * chunk / cut.chunks);
  const int tokens = static_cast<int>(n * (chunk + 1) / cut.chunks) - token;
  const int from = rest / near * cut.per_task, to = from + cut.per_task < cut.units ? from + cut.per_task : cut.units;
  Scratch scratch;
  typename M::template Keep<W> keep;
  alignas(64) float columns[W::kChunk * kStride];
  float* const pair = cut.call->rounded ? columns : nullptr;
  for (int i = from; i < to; i++) run_unit<M, W, L>(cut, 2 * i, token, tokens, scratch, keep, pair);
}

TS_INLINE int clamp(size_t x, int low, int high) {
  return x < static_cast<size_t>(low) ? low : x > static_cast<size_t>(high) ? high : static_cast<int>(x);
}

// Bytes from a panel to the next, of the coarse plane where there are two.
TS_INLINE size_t stride_of(const PackedMatrix& w) {
  return w.fine ? coarse_bytes(w.cols) : panel_bytes(w.type, w.cols);
}

// A task reads about `bytes` of the matrix, or does about 2^20 multiply-adds.
template <class M, class W, class L, class Scratch>
void run_way(const Call& call, size_t bytes, Team& team) {
  const int units = (call.w->rows + 32 - 1) / (32);
  Cut cut{&call, stride_of(*call.w), units, 1, 1, (call.x->n + W::kChunk - 1) / W::kChunk};
  const size_t unit = 2 * cut.panel_bytes;
  const size_t tokens = static_cast<size_t>(call.x->n) / static_cast<size_t>(cut.chunks);
  const size_t work = 32 * static_cast<size_t>(call.w->cols) * tokens;
  cut.per_task = clamp(bytes ? bytes / (unit + 1) : (size_t{1} << 20) / (work + 1), 1, units);
  // Larger ones where many are left for each thread: what is kept of a chunk's activations is made anew by every task.
  const int many = units * cut.chunks / (48 * team.size());
  if (bytes == 0 && many > cut.per_task) cut.per_task = many < 8 ? many : 8;
  if (call.rounded) cut.per_task += cut.per_task % 2;  // a block of 32 columns is of two units
  cut.groups = (units + cut.per_task - 1) / cut.per_task;
  team.run(cut.groups * cut.chunks, run_task<M, W, L, Scratch>, &cut);
}

template <class M>
void multiply(const Call& call, Team& team) {
  const PackedMatrix& w = *call.w;
  const int n = call.x->n;
  if (n <= 0 || w.rows <= 0 || w.cols <= 0) return;
  // a task reads about a thirtieth of the matrix, 32 to 256 KB
  const size_t all = stride_of(w) * static_cast<size_t>((w.rows + 15) / 16);
  const size_t task = static_cast<size_t>(clamp(all / 30, 32768, 262144));
  if (n <= M::Few::kChunk)
    return run_way<M, typename M::Few, typename M::Packed, typename M::Unsliced>(call, task, team);
  if (n <= M::Several::kChunk)
    return run_way<M, typename M::Several, typename M::Packed, typename M::Unsliced>(call, task, team);
  run_way<M, typename M::Many, typename M::Sliced, typename M::Scratch>(call, 0, team);
}

}  // namespace
}  // namespace tokensieve::kernels::TS_ISA
