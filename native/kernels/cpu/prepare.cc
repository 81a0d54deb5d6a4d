// Activations of one input, rounded once for all the matrices that read it.
#include "kernels/cpu/functions.h"
#include "kernels/cpu/norm_row.h"
#include "kernels/cpu/rounding.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

void leave_of_blocks(const float* x, const int8_t* q, const float* scale, size_t blocks, float* rest) {
  for (size_t b = 0; b < blocks; b++, x += 32, q += 32, rest += 32) {
    const F s = set1(scale[b]);
    store(rest, fnma(load_i8(q), s, load(x)));
    store(rest + 16, fnma(load_i8(q + 16), s, load(x + 16)));
  }
}

void leave_of_bf16(const float* x, const uint16_t* y, int cols, float* rest) {
  int k = 0;
  for (; k + 16 <= cols; k += 16) store(rest + k, sub(load(x + k), load_bf16(y + k)));
  for (; k < cols; k++) {
    const uint32_t bits = static_cast<uint32_t>(y[k]) << 16;
    float rounded;
    __builtin_memcpy(&rounded, &bits, 4);
    rest[k] = x[k] - rounded;
  }
}

// Columns [from, from + count) of a row, given as x. from is a multiple of kSlice.
void prepare_slice(const Prepared& p, size_t row, int from, const float* x, int count) {
  const size_t cols = static_cast<size_t>(p.cols), k = static_cast<size_t>(from), at = cols * row + k;
  uint16_t* const half = p.bf16 + (cols + 1) / 2 * 2 * row + k;
  if (p.bf16) round_row(x, count, half);
  if (p.rest && !p.q) leave_of_bf16(x, half, count, p.rest + at);
  if (!p.q) return;
  const size_t blocks = static_cast<size_t>(count) / 32;
  int8_t* const q = p.q + at;
  float* const scale = p.scale + at / 32;
  int16_t* const sum = p.sum + at / 16;
  size_t b = 0;
  for (; b + 16 <= blocks; b += 16) quantize_16_blocks(x + 32 * b, q + 32 * b, scale + b, sum + 2 * b);
  for (; b < blocks; b++) quantize_block(x + 32 * b, q + 32 * b, scale + b, sum + 2 * b);
  if (p.rest) leave_of_blocks(x, q, scale, blocks, p.rest + at);
}

constexpr int kSlice = 512;

void prepare_normed(const Prepared& p, size_t row, const float* weight, float eps) {
  alignas(64) float normed[kSlice];
  const float* x = p.f32 + p.ld * row;
  const F factor = norm_factor(x, p.cols, eps);
  for (int k = 0; k < p.cols; k += kSlice, x += kSlice) {
    const int count = p.cols - k < kSlice ? p.cols - k : kSlice;
    if (weight) {
      scale_norm<true, false>(x, count, weight + k, factor, nullptr, normed);
    } else {
      scale_norm<false, false>(x, count, nullptr, factor, nullptr, normed);
    }
    prepare_slice(p, row, k, normed, count);
  }
}

struct Job {
  const Prepared* p;
  int rows;  // a task
  bool normed;
  const float* weight;
  float eps;
};

void prepare_task(void* context, int index, int) {
  const Job& job = *static_cast<const Job*>(context);
  const Prepared& p = *job.p;
  const int from = index * job.rows, to = from + job.rows < p.n ? from + job.rows : p.n;
  for (int t = from; t < to; t++) {
    const size_t row = static_cast<size_t>(t);
    if (job.normed) {
      prepare_normed(p, row, job.weight, job.eps);
    } else {
      prepare_slice(p, row, 0, p.f32 + p.ld * row, p.cols);
    }
  }
}

void run(const Prepared& p, bool normed, const float* weight, float eps, Team& team) {
  Job job{&p, rows_per_task(p.n, static_cast<size_t>(p.cols)), normed, weight, eps};
  team.run(tasks_of(p.n, job.rows), prepare_task, &job);
}

}  // namespace

void prepare(const Prepared& p, Team& team) noexcept { run(p, false, nullptr, 0, team); }

void norm_prepare(const Prepared& p, const float* weight, float eps, Team& team) noexcept {
  run(p, true, weight, eps, team);
}

}  // namespace tokensieve::kernels::TS_ISA
