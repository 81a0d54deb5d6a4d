// The card's own limits: what figures of speed are held against.
//
// peak: mma.sync by 16 warps of a multiprocessor, 8 independent sums each, so that 4 warps of a quarter hide each other's
// latency (18 to 33 cycles where an mma takes 8 to 16); f32 by fused multiply-adds of as many threads. Operands of ones
// come as arguments and sums begin from zeros that the compiler takes for different numbers, or it would compute one of
// them once. On an H100 mma.sync reaches about 60 % of what wgmma would, the figure of the data sheet: no kernel here
// uses that, and shares are of what these kernels could reach.
//
// read_memory: 16 bytes a lane side by side, four loads on their way in each of 64 warps a multiprocessor: 128 KB, where
// an H100 needs 18 KB (kernels/cuda/matmul_few.cu).
#include "kernels/cuda/limits.h"

#include <mutex>
#include <new>

#include "core/memory.h"
#include "device.h"
#include "kernels/cuda/devices.h"

namespace tokensieve::kernels::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kSums = 8;
constexpr int kProducts = 2, kAdds = 8;  // of every sum a round
constexpr int kPeakBlocks = 2, kReadBlocks = 8, kLoads = 4;  // blocks of a multiprocessor

}  // namespace

// One number for the block, from one of each thread.
__device__ __forceinline__ void put_sum(double own, double* out) {
  SHARED_MEMORY(double, parts);  // [warps]
  for (int with = 16; with > 0; with /= 2) own += __shfl_xor_sync(0xffffffffu, own, with);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = own;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double all = 0;
  for (int warp = 0; warp < kWarps; warp++) all += parts[warp];
  out[blockIdx.x] = all;
}

__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_bf16(d, a, b);
}
__device__ __forceinline__ void multiply_add(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_int8(d, a, b);
}

// ones: a register of them. nothing: 0.
template <class Sum>
__global__ void __launch_bounds__(kThreads, kPeakBlocks)
    multiply_matrices(int rounds, uint32_t ones, Sum nothing, double* out) {
  const uint32_t a[4] = {ones, ones, ones, ones}, b[2] = {ones, ones};
  Sum sums[kSums][4];
#pragma unroll
  for (int i = 0; i < kSums; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++) sums[i][j] = nothing * static_cast<Sum>(4 * i + j);
  }
  for (int r = 0; r < rounds; r++) {
#pragma unroll
    for (int step = 0; step < kProducts; step++) {
#pragma unroll
      for (int i = 0; i < kSums; i++) multiply_add(sums[i], a, b);
    }
  }
  double own = 0;
#pragma unroll
  for (int i = 0; i < kSums; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++) own += static_cast<double>(sums[i][j]);
  }
  put_sum(own, out);
}

__global__ void __launch_bounds__(kThreads, kPeakBlocks)
    multiply_numbers(int rounds, float one, float nothing, double* out) {
  float sums[kSums];
#pragma unroll
  for (int i = 0; i < kSums; i++) sums[i] = nothing * static_cast<float>(i);
  for (int r = 0; r < rounds; r++) {
#pragma unroll
    for (int step = 0; step < kAdds; step++) {
#pragma unroll
      for (int i = 0; i < kSums; i++) sums[i] = fmaf(one, one, sums[i]);
    }
  }
  double own = 0;
#pragma unroll
  for (int i = 0; i < kSums; i++) own += static_cast<double>(sums[i]);
  put_sum(own, out);
}

// n: pieces of 16 bytes. out: a word for each warp.
__global__ void __launch_bounds__(kThreads, kReadBlocks) read_all(const uint4* data, size_t n, uint64_t* out) {
  const size_t threads = static_cast<size_t>(gridDim.x) * kThreads, own = blockIdx.x * kThreads + threadIdx.x;
  uint4 all = make_uint4(0, 0, 0, 0);
  for (size_t at = own; at < n; at += kLoads * threads) {
#pragma unroll
    for (int i = 0; i < kLoads; i++) {
      const size_t from = at + i * threads;
      if (from >= n) continue;
      const uint4 piece = data[from];
      all.x |= piece.x, all.y |= piece.y, all.z |= piece.z, all.w |= piece.w;
    }
  }
  unsigned low = all.x | all.z, high = all.y | all.w;
  for (int with = 16; with > 0; with /= 2) {
    low |= __shfl_xor_sync(0xffffffffu, low, with);
    high |= __shfl_xor_sync(0xffffffffu, high, with);
  }
  if (threadIdx.x % 32 == 0) out[own / 32] = static_cast<uint64_t>(high) << 32 | low;
}

namespace {

// A queue, and room for what blocks find. One for each device, until the process ends: pool threads end after the
// library's statics, so that none of them could close it.
class Bench {
 public:
  explicit Bench(int device) noexcept
      : memory_(device_memory(device)),
        queue_(memory_->open_queue(device)),
        processors_(device_info(device).processors),
        found_(memory_->allocate(device, room())) {}
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  bool works() const noexcept { return queue_ && found_; }
  int blocks(int of_one) const noexcept { return processors_ * of_one; }
  bool wait() const noexcept { return memory_->wait(queue_) == nullptr; }
  Queue* queue() const noexcept { return queue_; }
  template <class T>
  T* found() const noexcept {
    return reinterpret_cast<T*>(found_);
  }

 private:
  size_t room() const noexcept { return sizeof(uint64_t) * static_cast<size_t>(blocks(kReadBlocks) * kWarps); }

  const Memory* memory_;
  Queue* queue_;
  int processors_;
  uint8_t* found_;
};

// One measures at a time.
std::mutex& measuring() noexcept {
  static std::mutex mutex;
  return mutex;
}

const Bench* bench_of(int device) noexcept {
  static const Bench* all[16];
  const Bench*& one = all[device];
  if (!one) one = new (std::nothrow) Bench(device);
  return one && one->works() ? one : nullptr;
}

}  // namespace

double peak_of(int device, Kind kind, int rounds) noexcept {
  const std::lock_guard<std::mutex> lock(measuring());
  const Bench* const bench = bench_of(device);
  if (bench == nullptr) return 0;
  const Team team(1, nullptr, bench->queue());
  const Stream stream = stream_of(team);
  double* const found = bench->found<double>();
  const int blocks = bench->blocks(kPeakBlocks);
  constexpr size_t shared = sizeof(double) * kWarps;
  switch (kind) {
    case Kind::bf16:
      LAUNCH((multiply_matrices<float>), blocks, kThreads, shared, stream, rounds, 0x3f803f80u, 0.f, found);
      break;
    case Kind::int8:
      LAUNCH((multiply_matrices<int>), blocks, kThreads, shared, stream, rounds, 0x01010101u, 0, found);
      break;
    case Kind::f32: LAUNCH(multiply_numbers, blocks, kThreads, shared, stream, rounds, 1.f, 0.f, found);
  }
  if (!bench->wait()) return 0;
  double all = 0;
  for (int i = 0; i < blocks; i++) all += found[i];
  return all;
}

uint64_t read_memory_of(int device, const uint8_t* data, size_t bytes) noexcept {
  const std::lock_guard<std::mutex> lock(measuring());
  const Bench* const bench = bench_of(device);
  if (bench == nullptr) return 0;
  const Team team(1, nullptr, bench->queue());
  const Stream stream = stream_of(team);
  const int blocks = bench->blocks(kReadBlocks);
  uint64_t* const found = bench->found<uint64_t>();
  LAUNCH(read_all, blocks, kThreads, 0, stream, reinterpret_cast<const uint4*>(data), bytes / sizeof(uint4), found);
  if (!bench->wait()) return 0;
  uint64_t all = 0;
  for (int i = 0; i < blocks * kWarps; i++) all |= found[i];
  return all;
}

}  // namespace tokensieve::kernels::cuda
