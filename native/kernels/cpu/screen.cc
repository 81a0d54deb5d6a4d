// The coarse plane is streamed; a panel whose bound reaches the largest output so far is computed at once, while its
// codes are near. Token ids are for the most part in the order of how common they are, so that the largest comes early.
//
// Every block adds d (dot s + y) to a sum and |d| norm to its bound: dot of code >> 3 and q, s the activations' scale,
// y = -249/16 s sum(q), norm = s |q|. With u = 2^-24 and D the bound's sum, all of whose terms are positive:
//   matmul's sum is rounded by at most (blocks + 2) u times sum |d| s |sum of q w| <= 128 sqrt(32) D,
//   this one, times 8, by (blocks + 4) u times 8 (31 sqrt(32) + 249/16 sqrt(32)) D,
// together less than 4096 (blocks + 8) u D, which reach has room for (planes.cc).
#include "kernels/cpu/functions.h"
#include "kernels/cpu/tile_int8.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

constexpr float kTiny = 1e-36f;  // for what numbers too small to be normal lose
constexpr int kLeastPanels = 16;
constexpr int kAhead = 6144;  // bytes
constexpr uint64_t kNone = 0x007fffffull << 32;  // -infinity

// The largest output found and its row, in one number that grows with the output and, of equals, for the first row.
TS_INLINE uint64_t key_of(float value, int row) {
  value += 0.0f;  // -0 equals 0
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  bits = bits >> 31 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(bits) << 32 | (0xffffffffu - static_cast<uint32_t>(row));
}
TS_INLINE float value_of(uint64_t key) {
  uint32_t bits = static_cast<uint32_t>(key >> 32);
  bits = bits >> 31 ? bits & 0x7fffffffu : ~bits;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

// Of one token; in front of its numbers in the scratch.
struct alignas(64) Search {
  uint64_t best;
  int panels;  // computed
  int lost;  // given up
};

struct Job {
  const PackedMatrix* w;
  const Prepared* x;
  float* upper;
  uint8_t* scratch;
  int panels, per_task, most;

  size_t blocks() const { return static_cast<size_t>(x->cols) / 32; }
  Search* search(int t) const {
    return reinterpret_cast<Search*>(scratch + static_cast<size_t>(t) * (sizeof(Search) + stride()));
  }
  size_t stride() const { return (blocks() * 12 + 63) / 64 * 64; }
  float* shift(int t) const { return reinterpret_cast<float*>(search(t) + 1); }
  float* norm(int t) const { return shift(t) + blocks(); }
  int32_t* start(int t) const { return reinterpret_cast<int32_t*>(norm(t) + blocks()); }
};

void begin(const Job& job, int t) {
  Search& s = *job.search(t);
  s.best = kNone, s.panels = 0, s.lost = 0;
  const size_t first = job.blocks() * static_cast<size_t>(t);
  for (size_t b = 0; b < job.blocks(); b++) {
    const int8_t* q = job.x->q + 32 * (first + b);
    const int16_t* sums = job.x->sum + 2 * (first + b);
    const float scale = job.x->scale[first + b];
    const int sum = sums[0] + sums[1];
    int squares = 0;
    for (int i = 0; i < 32; i++) squares += q[i] * q[i];
    job.shift(t)[b] = -249.0f / 16 * static_cast<float>(sum) * scale;
    job.norm(t)[b] = __builtin_sqrtf(static_cast<float>(squares)) * scale;
    job.start(t)[b] = -kBias8 * sum;
  }
}

template <class L>
TS_INLINE Activations<L> activations(const Job& job, int t) {
  const size_t cols = static_cast<size_t>(job.x->cols), row = static_cast<size_t>(t);
  return {job.x->q + cols * row, job.x->scale + job.blocks() * row, job.start(t), cols, job.blocks(), 0};
}

// The outputs of a panel, as matmul has them.
void compute(const Job& job, int panel, int t) {
  const uint8_t* coarse = job.w->data + coarse_bytes(job.w->cols) * static_cast<size_t>(panel);
  const uint8_t* fine = fine_of(*job.w, coarse);
  alignas(64) uint8_t block[Q8_0::kBlock];
  const uint8_t* const at[1] = {block};
  Activations<Q8_0> a = activations<Q8_0>(job, t);
  F f[1][1] = {{zero()}};
  for (size_t b = 0; b < job.blocks(); b++, a.next(), coarse += Coarse::kBlock, fine += kFineBlock) {
    merge_block(coarse, fine, block);
    add_block<Q8_0, 1, 1>(at, at, a, f);
  }
  float outputs[16];
  store(outputs, f[0][0]);
  Search& s = *job.search(t);
  const int rows = job.w->rows - 16 * panel < 16 ? job.w->rows - 16 * panel : 16;
  for (int i = 0; i < rows; i++) {
    const uint64_t key = key_of(outputs[i], 16 * panel + i);
    uint64_t best = __atomic_load_n(&s.best, __ATOMIC_RELAXED);
    while (key > best && !__atomic_compare_exchange_n(&s.best, &best, key, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
  }
  const int computed = __atomic_add_fetch(&s.panels, 1, __ATOMIC_RELAXED);
  if (computed > job.most && !job.upper) __atomic_store_n(&s.lost, 1, __ATOMIC_RELAXED);
}

// upper: what none of a panel's outputs exceeds; sound: 0, NaN where that is not so.
void look(const Job& job, int panel, int t, F upper, F sound) {
  Search& s = *job.search(t);
  if (job.upper) {
    const int rows = job.w->rows - 16 * panel;
    float* out = job.upper + static_cast<size_t>(job.w->rows) * static_cast<size_t>(t) + 16 * panel;
    rows < 16 ? store_part(out, upper, rows) : store(out, upper);
  }
  if (!(reduce_add(sound) == 0)) __atomic_store_n(&s.lost, 1, __ATOMIC_RELAXED);
  if (__atomic_load_n(&s.lost, __ATOMIC_RELAXED)) return;
  if (reduce_max(upper) >= value_of(__atomic_load_n(&s.best, __ATOMIC_RELAXED))) compute(job, panel, t);
}

template <int T>
void screen_panel(const Job& job, int panel) {
  const uint8_t* block = job.w->data + coarse_bytes(job.w->cols) * static_cast<size_t>(panel);
  Activations<Coarse> a = activations<Coarse>(job, 0);
  F sum[T], size[T];
  TS_UNROLL for (int t = 0; t < T; t++) sum[t] = size[t] = zero();
  const float *shift[T], *norm[T];
  TS_UNROLL for (int t = 0; t < T; t++) shift[t] = job.shift(t), norm[t] = job.norm(t);
  for (size_t b = 0; b < job.blocks(); b++, a.next(), block += Coarse::kBlock) {
    TS_UNROLL for (int i = 0; i < Coarse::kBlock; i += 64) __builtin_prefetch(block + kAhead + i);
    const uint8_t* const at[1] = {block};
    I dot[T][1];
    TS_UNROLL for (int t = 0; t < T; t++) dot[t][0] = zeroi();
    dot_groups<Coarse, 0, 8, 1, T>(at, a, dot);
    const F d = load_f16(block + Coarse::kCodeBytes), positive = abs(d);
    TS_UNROLL for (int t = 0; t < T; t++) {
      sum[t] = fma(d, fma(to_f32(dot[t][0]), a.scale_of(t), set1(shift[t][b])), sum[t]);
      size[t] = fma(positive, set1(norm[t][b]), size[t]);
    }
  }
  const F reach = mul(load_u8(job.w->reach + 16 * panel), set1(kReachStep));
  TS_UNROLL for (int t = 0; t < T; t++) {
    const F upper = fma(reach, size[t], fma(sum[t], set1(8), set1(kTiny)));
    look(job, panel, t, upper, mul(mul(size[t], set1(4096)), zero()));  // infinity times 0 is NaN
  }
}

bool any_left(const Job& job) {
  for (int t = 0; t < job.x->n; t++) {
    if (!__atomic_load_n(&job.search(t)->lost, __ATOMIC_RELAXED)) return true;
  }
  return false;
}

void screen_task(void* context, int index, int) {
  const Job& job = *static_cast<const Job*>(context);
  const int from = index * job.per_task, to = from + job.per_task < job.panels ? from + job.per_task : job.panels;
  for (int panel = from; panel < to && any_left(job); panel++) {
    switch (job.x->n) {
      case 1: screen_panel<1>(job, panel); break;
      case 2: screen_panel<2>(job, panel); break;
      default: screen_panel<3>(job, panel);
    }
  }
}

}  // namespace

void screen(const PackedMatrix& w, const Prepared& x, Screened* out, float* upper, void* scratch, Team& team) noexcept {
  const int panels = (w.rows + 15) / 16;
  Job job{&w, &x, upper, static_cast<uint8_t*>(scratch), panels, 1, kLeastPanels + panels / 8};
  const size_t all = coarse_bytes(w.cols) * static_cast<size_t>(panels);
  job.per_task = clamp(static_cast<size_t>(clamp(all / 30, 32768, 262144)) / coarse_bytes(w.cols), 1, panels);
  for (int t = 0; t < x.n; t++) begin(job, t);
  team.run((panels + job.per_task - 1) / job.per_task, screen_task, &job);
  for (int t = 0; t < x.n; t++) {
    const Search& s = *job.search(t);
    const int row = static_cast<int>(0xffffffffu - static_cast<uint32_t>(s.best));
    out[t] = {s.lost || s.best == kNone ? -1 : row, 16 * s.panels};
  }
}

}  // namespace tokensieve::kernels::TS_ISA
