// Rows of a packed matrix, dequantized one lane at a time: the same bits as the GGUF row times scale.
#include "kernels/cpu/functions.h"
#include "kernels/cpu/planes.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

// The four codes of `lane` in every group of a block, in the order of the columns.
template <class W, int g>
TS_INLINE void lane_codes(const uint8_t* block, int lane, uint8_t* codes) {
  if constexpr (g < 8) {
    alignas(64) uint8_t group[64];
    store_b(group, W::template code<g>(block));
    __builtin_memcpy(codes + 4 * g, group + 4 * lane, 4);
    lane_codes<W, g + 1>(block, lane, codes);
  }
}

TS_INLINE float lane_of(F x, int lane) {
  float all[16];
  store(all, x);
  return all[lane];
}

template <class W>
void block_values(const uint8_t* head, const uint8_t* block, int lane, float scale, float* out) {
  uint8_t codes[32];
  lane_codes<W, 0>(block, lane, codes);
  for (int half = 0; half < 2; half++) {
    const F code = W::kBits == 8 && kBias8 == 0 ? load_i8(codes + 16 * half) : load_u8(codes + 16 * half);
    F value = mul(sub(code, set1(W::kZero)), set1(lane_of(W::scale(head, block, half), lane)));
    if (W::kMin) value = add(value, set1(lane_of(W::minimum(head, block), lane)));
    store(out + 16 * half, mul(value, set1(scale)));
  }
}

template <class W>
void block_row(const uint8_t* panel, int lane, int cols, float scale, float* out) {
  for (int b = 0; b < cols / 32; b++)
    block_values<W>(head_of<W>(panel, b), block_of<W>(panel, b), lane, scale, out + 32 * b);
}

void plane_row(const PackedMatrix& w, int row, float scale, float* out) {
  const uint8_t* coarse = w.data + coarse_bytes(w.cols) * static_cast<size_t>(row / 16);
  const uint8_t* fine = fine_of(w, coarse);
  alignas(64) uint8_t block[Q8_0::kBlock];
  for (int b = 0; b < w.cols / 32; b++) {
    merge_block(coarse + b * Coarse::kBlock, fine + b * kFineBlock, block);
    block_values<Q8_0>(block, block, row % 16, scale, out + 32 * b);
  }
}

// size bytes an element, [cols / pair][16][pair].
template <int size, int pair>
void element_row(const uint8_t* panel, int lane, int cols, float scale, F (*widen)(const void*), float* out) {
  for (int k = 0; k < cols; k += 16) {
    uint8_t elements[16 * size] = {};
    const int count = cols - k < 16 ? cols - k : 16;
    for (int i = 0; i < count; i++) {
      const size_t at = (static_cast<size_t>((k + i) / pair) * 16 + static_cast<size_t>(lane)) * pair +
                        static_cast<size_t>((k + i) % pair);
      __builtin_memcpy(elements + i * size, panel + at * size, size);
    }
    const F values = mul(widen(elements), set1(scale));
    if (count == 16) {
      store(out + k, values);
    } else {
      store_part(out + k, values, count);
    }
  }
}

F widen_f32(const void* p) { return load(static_cast<const float*>(p)); }
F widen_f16(const void* p) { return load_f16(p); }
F widen_bf16(const void* p) { return load_bf16(p); }

struct Job {
  const PackedMatrix* w;
  const int32_t* ids;
  int n, rows;  // rows a task
  float scale;
  float* out;
};

void embed(const Job& job, int i) {
  const int cols = job.w->cols, lane = job.ids[i] % 16;
  if (job.w->fine)
    return plane_row(*job.w, job.ids[i], job.scale, job.out + static_cast<size_t>(cols) * static_cast<size_t>(i));
  const uint8_t* panel = job.w->data + panel_bytes(job.w->type, cols) * static_cast<size_t>(job.ids[i] / 16);
  float* out = job.out + static_cast<size_t>(cols) * static_cast<size_t>(i);
  switch (job.w->type) {
    case DType::f32: return element_row<4, 1>(panel, lane, cols, job.scale, widen_f32, out);
    case DType::f16: return element_row<2, 1>(panel, lane, cols, job.scale, widen_f16, out);
    case DType::bf16: return element_row<2, kPairs ? 2 : 1>(panel, lane, cols, job.scale, widen_bf16, out);
    case DType::q8_0: return block_row<Q8_0>(panel, lane, cols, job.scale, out);
    case DType::q4_0: return block_row<Q4_0>(panel, lane, cols, job.scale, out);
    case DType::q4_1: return block_row<Q4_1>(panel, lane, cols, job.scale, out);
    case DType::q5_0: return block_row<Q5_0>(panel, lane, cols, job.scale, out);
    case DType::q5_1: return block_row<Q5_1>(panel, lane, cols, job.scale, out);
    case DType::q4_k: return block_row<Q4_K>(panel, lane, cols, job.scale, out);
    case DType::q5_k: return block_row<Q5_K>(panel, lane, cols, job.scale, out);
    case DType::q6_k: return block_row<Q6_K>(panel, lane, cols, job.scale, out);
    case DType::kivi4:
    case DType::kivi2: return;
  }
}

void embed_task(void* context, int index, int) {
  const Job& job = *static_cast<const Job*>(context);
  const int from = index * job.rows, to = from + job.rows < job.n ? from + job.rows : job.n;
  for (int i = from; i < to; i++) embed(job, i);
}

}  // namespace

void embedding(const PackedMatrix& w, const int32_t* ids, int n, float scale, float* out, Team& team) noexcept {
  Job job{&w, ids, n, rows_per_task(n, static_cast<size_t>(w.cols)), scale, out};
  team.run(tasks_of(n, job.rows), embed_task, &job);
}

}  // namespace tokensieve::kernels::TS_ISA
