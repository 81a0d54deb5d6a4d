#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

namespace {

// x: the first of the neighbours, which lie `step` bytes apart.
uint8_t weigh(const uint8_t* x, size_t step, const int32_t* weight, int count) {
  int64_t sum = int64_t{1} << (kTapBits - 1);
  for (int k = 0; k < count; ++k) sum += static_cast<int64_t>(weight[k]) * x[static_cast<size_t>(k) * step];
  sum >>= kTapBits;
  return static_cast<uint8_t>(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

}  // namespace

void resample_across(const uint8_t* x, int width, int rows, const Taps& taps, uint8_t* y, Team&) noexcept {
  for (int r = 0; r < rows; ++r) {
    const uint8_t* const row = x + static_cast<size_t>(r) * static_cast<size_t>(width) * 3;
    for (int i = 0; i < taps.size; ++i) {
      for (int c = 0; c < 3; ++c)
        *y++ = weigh(row + taps.first[i] * 3 + c, 3, taps.weight + i * taps.reach, taps.count[i]);
    }
  }
}

void resample_down(const uint8_t* x, size_t bytes, const Taps& taps, uint8_t* y, Team&) noexcept {
  for (int i = 0; i < taps.size; ++i) {
    const uint8_t* const first = x + static_cast<size_t>(taps.first[i]) * bytes;
    for (size_t b = 0; b < bytes; ++b) *y++ = weigh(first + b, bytes, taps.weight + i * taps.reach, taps.count[i]);
  }
}

}  // namespace tokensieve::kernels::reference
