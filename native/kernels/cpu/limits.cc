#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

// Loops over accumulators are unrolled to the last one: an array that is indexed would live in memory. Each begins from
// a zero of its own: those that could only be equal would be computed once.
// As many of them as the registers hold beside the operands: enough to hide every instruction's latency.
#if defined(TS_ISA_AVX512)
constexpr int kFloats = 12, kDots = 12;
#elif defined(TS_ISA_AVX2)
constexpr int kFloats = 5, kDots = 3;
#elif defined(TS_ISA_DOTPROD)
constexpr int kFloats = 4, kDots = 4;
#else
constexpr int kFloats = 4, kDots = 2;
#endif
constexpr int kSteps = 8;  // of every accumulator a round

// Operands come from memory that the compiler knows nothing of, as they do in a matmul's inner loop.
struct alignas(64) Ones {
  uint8_t codes[64 * 12];
  uint16_t halves[32];
  float floats[16], zeros[16 * 12];
};

// What they hold may have changed; everything else stays in its registers.
TS_INLINE void touch(Ones& ones) { __asm__ volatile("" : "+m"(ones)); }

void fill(Ones& ones) {
  for (uint8_t& code : ones.codes) code = 1;
  for (uint16_t& half : ones.halves) half = 0x3f80;
  for (float& one : ones.floats) one = 1;
  for (float& nothing : ones.zeros) nothing = 0;
  touch(ones);
}

double sum_of(F a) {
  float lanes[16];
  store(lanes, a);
  double all = 0;
  for (const float lane : lanes) all += static_cast<double>(lane);
  return all;
}

double float_peak(Ones& ones, int rounds) {
  F sums[kFloats];
  TS_UNROLL for (int i = 0; i < kFloats; ++i) sums[i] = load(ones.zeros + 16 * i);
  for (int r = 0; r < rounds; ++r) {
    touch(ones);
    const F a = load(ones.floats), b = load(ones.floats);
    TS_UNROLL for (int step = 0; step < kSteps; ++step) {
      TS_UNROLL for (int i = 0; i < kFloats; ++i) sums[i] = fma(a, b, sums[i]);
    }
  }
  double all = 0;
  TS_UNROLL for (int i = 0; i < kFloats; ++i) all += sum_of(sums[i]);
  return all;
}

// Codes of four bits: where eight take more instructions, these are what the machine does at best.
double dot_peak(Ones& ones, int rounds) {
  using D = Dots<4>;
  static_assert(D::kRun == kSteps, "a round is one run");
  I sums[kDots];
  TS_UNROLL for (int i = 0; i < kDots; ++i) sums[i] = to_i32(load(ones.zeros + 16 * i));
  for (int r = 0; r < rounds; ++r) {
    touch(ones);
    D::S run[kDots];
    TS_UNROLL for (int i = 0; i < kDots; ++i) run[i] = D::begin(sums[i]);
    TS_UNROLL for (int step = 0; step < kSteps; ++step) {
      const X x = broadcast4(ones.codes + 4 * step);
      TS_UNROLL for (int i = 0; i < kDots; ++i) run[i] = D::add(run[i], load_b(ones.codes + 64 * i), x);
    }
    TS_UNROLL for (int i = 0; i < kDots; ++i) sums[i] = D::end(sums[i], run[i]);
  }
  double all = 0;
  TS_UNROLL for (int i = 0; i < kDots; ++i) all += sum_of(to_f32(sums[i]));
  return all;
}

#if defined(TS_ISA_BF16)
double bf16_peak(Ones& ones, int rounds) {
  F sums[kFloats];
  TS_UNROLL for (int i = 0; i < kFloats; ++i) sums[i] = load(ones.zeros + 16 * i);
  for (int r = 0; r < rounds; ++r) {
    touch(ones);
    const H w = load_h(ones.halves), x = broadcast_h(ones.halves);
    TS_UNROLL for (int step = 0; step < kSteps; ++step) {
      TS_UNROLL for (int i = 0; i < kFloats; ++i) sums[i] = dot_bf16(sums[i], w, x);
    }
  }
  double all = 0;
  TS_UNROLL for (int i = 0; i < kFloats; ++i) all += sum_of(sums[i]);
  return all;
}
#else
double bf16_peak(Ones&, int) { return 0; }
#endif

}  // namespace

double peak(Kind kind, int rounds) noexcept {
  Ones ones;
  fill(ones);
  if (kind == Kind::int8) return dot_peak(ones, rounds);
  return kind == Kind::bf16 ? bf16_peak(ones, rounds) : float_peak(ones, rounds);
}

uint64_t read_memory(const uint8_t* data, size_t bytes) noexcept {
  B all[4] = {set1b(0), set1b(0), set1b(0), set1b(0)};
  for (size_t at = 0; at < bytes; at += 256) {
    TS_UNROLL for (int i = 0; i < 4; ++i) all[i] = or_b(all[i], load_b(data + at + static_cast<size_t>(64 * i)));
  }
  uint64_t words[8], together = 0;
  store_b(words, or_b(or_b(all[0], all[1]), or_b(all[2], all[3])));
  for (const uint64_t word : words) together |= word;
  return together;
}

}  // namespace tokensieve::kernels::TS_ISA
