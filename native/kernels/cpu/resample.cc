#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

struct Pass {
  const uint8_t* x;
  size_t bytes;  // of a row of x
  int rows;      // of y
  const Taps* taps;
  uint8_t* y;
  int per_task;
};

constexpr int32_t kHalf = 1 << (kTapBits - 1);

TS_INLINE uint8_t byte_of(int32_t sum) {
  sum >>= kTapBits;
  return static_cast<uint8_t>(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

void across_rows(void* context, int index, int) {
  const Pass& p = *static_cast<const Pass*>(context);
  const Taps& taps = *p.taps;
  const int from = index * p.per_task, end = from + p.per_task < p.rows ? from + p.per_task : p.rows;
  uint8_t* y = p.y + static_cast<size_t>(from) * static_cast<size_t>(taps.size) * 3;
  for (int r = from; r < end; ++r) {
    const uint8_t* const row = p.x + static_cast<size_t>(r) * p.bytes;
    const int32_t* weight = taps.weight;
    for (int i = 0; i < taps.size; ++i, y += 3, weight += taps.reach) {
      const uint8_t* x = row + static_cast<size_t>(taps.first[i]) * 3;
      int32_t red = kHalf, green = kHalf, blue = kHalf;
      for (int k = 0; k < taps.count[i]; ++k, x += 3) {
        red += weight[k] * x[0];
        green += weight[k] * x[1];
        blue += weight[k] * x[2];
      }
      y[0] = byte_of(red), y[1] = byte_of(green), y[2] = byte_of(blue);
    }
  }
}

void down_rows(void* context, int index, int) {
  const Pass& p = *static_cast<const Pass*>(context);
  const Taps& taps = *p.taps;
  const int from = index * p.per_task, end = from + p.per_task < p.rows ? from + p.per_task : p.rows;
  for (int i = from; i < end; ++i) {
    const uint8_t* const x = p.x + static_cast<size_t>(taps.first[i]) * p.bytes;
    const int32_t* const weight = taps.weight + static_cast<size_t>(i) * static_cast<size_t>(taps.reach);
    uint8_t* const y = p.y + static_cast<size_t>(i) * p.bytes;
    size_t b = 0;
    for (; b + 16 <= p.bytes; b += 16) {
      I sums = set1i(kHalf);
      const uint8_t* at = x + b;
      for (int k = 0; k < taps.count[i]; ++k, at += p.bytes) {
        sums = addi(sums, muli(set1i(weight[k]), to_i32(load_u8(at))));
      }
      int32_t lanes[16];
      storei(lanes, sums);
      for (int lane = 0; lane < 16; ++lane) y[b + static_cast<size_t>(lane)] = byte_of(lanes[lane]);
    }
    for (; b < p.bytes; ++b) {
      int32_t sum = kHalf;
      for (int k = 0; k < taps.count[i]; ++k) sum += weight[k] * x[static_cast<size_t>(k) * p.bytes + b];
      y[b] = byte_of(sum);
    }
  }
}

// Rows of a task: what is read for one of them counts.
int rows_of_task(const Taps& taps, int rows, size_t row_bytes) {
  return rows_per_task(rows, row_bytes * static_cast<size_t>(taps.reach));
}

}  // namespace

void resample_across(const uint8_t* x, int width, int rows, const Taps& taps, uint8_t* y, Team& team) noexcept {
  const int per_task = rows_of_task(taps, rows, static_cast<size_t>(taps.size) * 3);
  Pass pass = {x, static_cast<size_t>(width) * 3, rows, &taps, y, per_task};
  team.run(tasks_of(rows, per_task), across_rows, &pass);
}

void resample_down(const uint8_t* x, size_t bytes, const Taps& taps, uint8_t* y, Team& team) noexcept {
  const int per_task = rows_of_task(taps, taps.size, bytes);
  Pass pass = {x, bytes, taps.size, &taps, y, per_task};
  team.run(tasks_of(taps.size, per_task), down_rows, &pass);
}

}  // namespace tokensieve::kernels::TS_ISA
