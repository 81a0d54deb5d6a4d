// Weights stay GGUF rows; every product and sum is in double, in ascending order of the column. A tile of 8 tokens is
// transposed into doubles, so that the compiler adds 8 sums at once: whole models are run with this backend.
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "kernels/reference/activation.h"
#include "kernels/reference/planes.h"

namespace tokensieve::kernels::reference {
namespace {

constexpr int kRows = 32, kSlice = 256, kTokens = 64, kTile = 8;

struct Call {
  const PackedMatrix& w;
  const Prepared& x;
  const float* bias;
  bool accumulate;
  float* out;
  size_t ldo;
  const Activation* gate;  // of matmul_gate, else null
};

// sums[T] += row[depth] x [depth][T]
template <int T>
void add_products(const float* row, const double* x, int depth, double* sums) {
  double s[T];
  for (int t = 0; t < T; t++) s[t] = sums[t];
  for (int k = 0; k < depth; k++) {
    const double w = static_cast<double>(row[k]);
    for (int t = 0; t < T; t++) s[t] += w * x[k * T + t];
  }
  for (int t = 0; t < T; t++) sums[t] = s[t];
}

// x [depth][T] from tokens [t0, t0 + T) and columns [k0, k0 + depth); absent tokens are 0.
template <int T>
void transpose(const Prepared& p, int t0, int k0, int depth, double* x) {
  for (int t = 0; t < T; t++) {
    const float* from = t0 + t < p.n ? p.f32 + p.ld * static_cast<size_t>(t0 + t) + k0 : nullptr;
    for (int k = 0; k < depth; k++) x[k * T + t] = from ? static_cast<double>(from[k]) : 0;
  }
}

// sums [tokens / T][rows][T]
template <int T>
void multiply(const Call& c, int row0, int rows, int token0, int tokens, double* sums) {
  float weights[kRows][kSlice];
  Team alone(1);
  double x[kSlice * T];
  for (int k0 = 0; k0 < c.w.cols; k0 += kSlice) {
    const int depth = c.w.cols - k0 < kSlice ? c.w.cols - k0 : kSlice;
    for (int r = 0; r < rows; r++) {
      row_values(c.w, row0 + r, k0, depth, weights[r], alone);
    }
    for (int t = 0; t < tokens; t += T) {
      transpose<T>(c.x, token0 + t, k0, depth, x);
      for (int r = 0; r < rows; r++) add_products<T>(weights[r], x, depth, sums + (t / T * kRows + r) * T);
    }
  }
}

// What matmul gives, of which gate makes an output.
float gated(const Call& c, int row, double gate, double up) {
  const float a = static_cast<float>(gate + (c.bias ? static_cast<double>(c.bias[row]) : 0));
  const float b = static_cast<float>(up + (c.bias ? static_cast<double>(c.bias[row + 16]) : 0));
  return static_cast<float>(activated(*c.gate, a) * b);
}

void run_block(const Call& c, int row0, int token0) {
  const int rows = c.w.rows - row0 < kRows ? c.w.rows - row0 : kRows;
  const int tokens = c.x.n - token0 < kTokens ? c.x.n - token0 : kTokens;
  const int tile = tokens == 1 ? 1 : kTile;
  double sums[kTokens * kRows] = {};
  if (tile == 1) {
    multiply<1>(c, row0, rows, token0, tokens, sums);
  } else {
    multiply<kTile>(c, row0, rows, token0, tokens, sums);
  }
  const auto sum_of = [&](int t, int r) { return sums[(t / tile * kRows + r) * tile + t % tile]; };
  for (int t = 0; t < tokens; t++) {
    for (int r = 0; c.gate && r < 16; r++)
      c.out[c.ldo * static_cast<size_t>(token0 + t) + static_cast<size_t>(row0 / 2 + r)] =
          gated(c, row0 + r, sum_of(t, r), sum_of(t, r + 16));
    for (int r = 0; !c.gate && r < rows; r++) {
      float& out = c.out[c.ldo * static_cast<size_t>(token0 + t) + static_cast<size_t>(row0 + r)];
      const double sum = sum_of(t, r);
      const double bias = c.bias ? static_cast<double>(c.bias[row0 + r]) : 0;
      out = static_cast<float>(c.accumulate ? static_cast<double>(out) + (sum + bias) : sum + bias);
    }
  }
}

// Blocks with no number of at least 1e-30 count as zero: 127 / max would be infinite.
void prepare_block(const float* x, int8_t* q, float* scale, int16_t* sum) {
  float largest = 0;
  for (int j = 0; j < 32; j++) largest = std::fmax(largest, std::fabs(x[j]));
  const bool zero = largest < 1e-30f;
  *scale = zero ? 0 : largest / 127;
  sum[0] = sum[1] = 0;
  for (int j = 0; j < 32; j++) {
    q[j] = zero ? 0 : static_cast<int8_t>(std::nearbyint(x[j] * (127 / largest)));
    sum[j / 16] = static_cast<int16_t>(sum[j / 16] + q[j]);
  }
}

}  // namespace

size_t packed_bytes(DType type, int rows, int cols) noexcept {
  return row_bytes(type, static_cast<size_t>(cols)) * static_cast<size_t>(rows);
}

Kind activation_kind(DType) noexcept { return Kind::f32; }

void pack(DType type, const void* src, int, int cols, const int32_t* map, int row0, int row1, uint8_t* out) noexcept {
  const size_t bytes = row_bytes(type, static_cast<size_t>(cols));
  for (int r = row0; r < row1; r++) {
    const size_t from = static_cast<size_t>(map ? map[r] : r);
    std::memcpy(out + bytes * static_cast<size_t>(r), static_cast<const uint8_t*>(src) + bytes * from, bytes);
  }
}

// Matrices of this backend read p.f32 only; the other forms are written for whoever wants to compare.
void prepare(const Prepared& p, Team&) noexcept {
  const size_t cols = static_cast<size_t>(p.cols), even = (cols + 1) / 2 * 2;
  for (size_t t = 0; t < static_cast<size_t>(p.n); t++) {
    const float* x = p.f32 + p.ld * t;
    for (size_t k = 0; p.bf16 && k < even; k++) p.bf16[even * t + k] = k < cols ? float_to_bf16(x[k]) : 0;
    for (size_t b = 0; p.q && b < cols / 32; b++) {
      const size_t at = cols / 32 * t + b;
      prepare_block(x + 32 * b, p.q + cols * t + 32 * b, p.scale + at, p.sum + 2 * at);
    }
  }
}

namespace {
void run_blocks(const Call& call, Team& team) {
  const int row_blocks = (call.w.rows + kRows - 1) / kRows, token_blocks = (call.x.n + kTokens - 1) / kTokens;
  team.each(row_blocks * token_blocks,
            [&](int index, int) { run_block(call, index % row_blocks * kRows, index / row_blocks * kTokens); });
}
}  // namespace

void matmul(const PackedMatrix& w, const Prepared& x, const float* bias, bool accumulate, float* out, size_t ldo,
            Team& team) noexcept {
  run_blocks({w, x, bias, accumulate, out, ldo, nullptr}, team);
}

void matmul_gate(const PackedMatrix& w, const Prepared& x, const float* bias, Activation act, float* out, size_t ldo,
                 Team& team) noexcept {
  run_blocks({w, x, bias, false, out, ldo, &act}, team);
}

void embedding(const PackedMatrix& w, const int32_t* ids, int n, float scale, float* out, Team& team) noexcept {
  for (int i = 0; i < n; i++) {
    float* row = out + static_cast<size_t>(w.cols) * static_cast<size_t>(i);
    row_values(w, ids[i], 0, w.cols, row, team);
    for (int k = 0; k < w.cols; k++) row[k] *= scale;
  }
}

}  // namespace tokensieve::kernels::reference
