// Resample: a thread a byte, exact in 32 bits. Limit: the weights' multiply-adds, one a byte and tap; pictures are small
// beside everything else.
#include "kernels/resample.h"

#include "device.h"

namespace tokensieve::kernels::cuda {

// Taps on the device.
struct Axis {
  const int32_t *first, *count, *weight;  // [size], [size], [size][reach]
  int size, reach;
};

namespace {

constexpr int kThreads = 256;

Axis send(const Taps& taps, Team& team) {
  const size_t size = static_cast<size_t>(taps.size);
  return {upload(team, taps.first, size), upload(team, taps.count, size),
          upload(team, taps.weight, size * static_cast<size_t>(taps.reach)), taps.size, taps.reach};
}

// x: the first of the neighbours, which lie `step` bytes apart.
__device__ __forceinline__ uint8_t weigh(const uint8_t* x, size_t step, const Axis& axis, int i) {
  const int32_t* weight = axis.weight + static_cast<size_t>(i) * axis.reach;
  int sum = 1 << (kTapBits - 1);
  for (int k = 0; k < axis.count[i]; k++) sum += weight[k] * x[k * step];
  sum >>= kTapBits;
  return static_cast<uint8_t>(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

int blocks_of(size_t bytes) { return static_cast<int>((bytes + kThreads - 1) / kThreads); }

}  // namespace

__global__ void resample_rows(const uint8_t* x, int width, int rows, Axis axis, uint8_t* y) {
  const size_t at = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x, line = static_cast<size_t>(axis.size) * 3;
  const size_t r = at / line;
  if (r >= static_cast<size_t>(rows)) return;
  const int i = static_cast<int>(at % line / 3), c = static_cast<int>(at % 3);
  y[at] = weigh(x + (r * width + axis.first[i]) * 3 + c, 3, axis, i);
}

__global__ void resample_columns(const uint8_t* x, size_t bytes, Axis axis, uint8_t* y) {
  const size_t at = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int i = static_cast<int>(at / bytes);
  if (i >= axis.size) return;
  y[at] = weigh(x + axis.first[i] * bytes + at % bytes, bytes, axis, i);
}

void resample_across(const uint8_t* x, int width, int rows, const Taps& taps, uint8_t* y, Team& team) noexcept {
  const int blocks = blocks_of(static_cast<size_t>(rows) * static_cast<size_t>(taps.size) * 3);
  if (blocks == 0) return;
  LAUNCH(resample_rows, blocks, kThreads, 0, stream_of(team), x, width, rows, send(taps, team), y);
}

void resample_down(const uint8_t* x, size_t bytes, const Taps& taps, uint8_t* y, Team& team) noexcept {
  const int blocks = blocks_of(static_cast<size_t>(taps.size) * bytes);
  if (blocks == 0) return;
  LAUNCH(resample_columns, blocks, kThreads, 0, stream_of(team), x, bytes, send(taps, team), y);
}

}  // namespace tokensieve::kernels::cuda
