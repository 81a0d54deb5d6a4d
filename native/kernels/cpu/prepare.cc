// Activations of one input, rounded once for all the matrices that read it.
#include "kernels/cpu/functions.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

// x [32] -> q [32], its scale, and the sums of both halves of q. Blocks with no number of at least 1e-30 count as zero:
// 127 / max would be infinite.
TS_INLINE void quantize_block(const float* x, int8_t* q, float* scale, int16_t* sums) {
  const F a = load(x), b = load(x + 16);
  const float largest = reduce_max(max(abs(a), abs(b)));
  const bool zero_block = largest < 1e-30f;
  *scale = zero_block ? 0 : largest / 127;
  const F inverse = set1(zero_block ? 0 : 127 / largest);
  const I qa = to_i32(mul(a, inverse)), qb = to_i32(mul(b, inverse));
  store_i8(q, qa);
  store_i8(q + 16, qb);
  sums[0] = static_cast<int16_t>(reduce_addi(qa));
  sums[1] = static_cast<int16_t>(reduce_addi(qb));
}

#if defined(TS_ISA_AVX512)
// 16 blocks, with the same bits: their maxima, scales and sums side by side.
void quantize_16_blocks(const float* x, int8_t* q, float* scale, int16_t* sums) {
  F top[16];
  TS_UNROLL for (int b = 0; b < 16; b++) top[b] = max(abs(load(x + 32 * b)), abs(load(x + 32 * b + 16)));
  const F largest = max_of_each(top), least = set1(1e-30f);
  store(scale, select_less(largest, least, zero(), div(largest, set1(127))));
  float inverse[16];
  store(inverse, select_less(largest, least, zero(), div(set1(127), largest)));
  B bytes[8];
  TS_UNROLL for (int i = 0; i < 8; i++, x += 64) {
    const F a = set1(inverse[2 * i]), b = set1(inverse[2 * i + 1]);
    bytes[i] = bytes_of(to_i32(mul(load(x), a)), to_i32(mul(load(x + 16), a)), to_i32(mul(load(x + 32), b)),
                        to_i32(mul(load(x + 48), b)));
    store_b(q + 64 * i, bytes[i]);
  }
  store_sums_of_16(sums, bytes);
}
#endif

void round_row(const float* x, int cols, uint16_t* y) {
  int k = 0;
  for (; k + 16 <= cols; k += 16) store_bf16(y + k, load(x + k));
  if (k == cols) return;
  uint16_t tail[16];
  store_bf16(tail, load_part(x + k, cols - k));  // the padding of an odd row is zero
  for (int i = 0; i < (cols - k + 1) / 2 * 2; i++) y[k + i] = tail[i];
}

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

void prepare_row(const Prepared& p, int row) {
  const size_t t = static_cast<size_t>(row), cols = static_cast<size_t>(p.cols), blocks = cols / 32;
  const float* x = p.f32 + p.ld * t;
  if (p.bf16) round_row(x, p.cols, p.bf16 + (cols + 1) / 2 * 2 * t);
  if (p.rest && !p.q) leave_of_bf16(x, p.bf16 + (cols + 1) / 2 * 2 * t, p.cols, p.rest + cols * t);
  if (!p.q) return;
  size_t b = 0;
#if defined(TS_ISA_AVX512)
  for (; b + 16 <= blocks; b += 16) {
    const size_t at = blocks * t + b;
    quantize_16_blocks(x + 32 * b, p.q + cols * t + 32 * b, p.scale + at, p.sum + 2 * at);
  }
#endif
  for (; b < blocks; b++) {
    const size_t at = blocks * t + b;
    quantize_block(x + 32 * b, p.q + cols * t + 32 * b, p.scale + at, p.sum + 2 * at);
  }
  if (p.rest) leave_of_blocks(x, p.q + cols * t, p.scale + blocks * t, blocks, p.rest + cols * t);
}

struct Job {
  const Prepared* p;
  int rows;  // a task
};

void prepare_task(void* context, int index, int) {
  const Job& job = *static_cast<const Job*>(context);
  const int from = index * job.rows, to = from + job.rows < job.p->n ? from + job.rows : job.p->n;
  for (int row = from; row < to; row++) prepare_row(*job.p, row);
}

}  // namespace

void prepare(const Prepared& p, Team& team) noexcept {
  Job job{&p, rows_per_task(p.n, static_cast<size_t>(p.cols))};
  team.run(tasks_of(p.n, job.rows), prepare_task, &job);
}

}  // namespace tokensieve::kernels::TS_ISA
