// q8_0 rows of a GGUF -> two planes (planes.h).
#include "kernels/cpu/planes.h"
#include "kernels/cpu/functions.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

constexpr int kSource = 34;
constexpr int kMostColumns = 1 << 16;  // so that a reach fits its byte

TS_INLINE void put(uint8_t* group, int lane, uint32_t w) { __builtin_memcpy(group + 4 * lane, &w, 4); }

// One block of a row into its lane of both planes. Returns the sum of the squares of 2 l - 7.
int split_block(const uint8_t* from, uint8_t* coarse, uint8_t* fine, int lane) {
  uint32_t high[8], plane = 0, low[3] = {0, 0, 0};
  int squares = 0;
  for (int g = 0; g < 8; g++) {
    uint32_t code;
    __builtin_memcpy(&code, from + 2 + 4 * g, 4);
    code ^= 0x80808080u;
    high[g] = code >> 3 & 0x1f1f1f1fu;
    plane |= (high[g] >> 4 & 0x01010101u) << kPlane[g];
    if (g < 6) low[g / 2] |= (code & 0x07070707u) << (4 * (g % 2));
    for (int j = 0; g >= 6 && j < 3; j++) low[j] |= (code >> j & 0x01010101u) << (g == 6 ? 3 : 7);
  }
  for (int i = 0; i < 32; i++) {
    const int rest = 2 * (from[2 + i] & 7) - 7;
    squares += rest * rest;
  }
  for (int g = 0; g < 4; g++) {
    put(coarse + 64 * g, lane, (high[g] & 0x0f0f0f0fu) | (high[g + 4] & 0x0f0f0f0fu) << 4);
  }
  put(coarse + 256, lane, plane);
  __builtin_memcpy(coarse + Coarse::kCodeBytes + 2 * lane, from, 2);
  for (int j = 0; j < 3; j++) put(fine + 64 * j, lane, low[j]);
  return squares;
}

// The norm of l - 3.5 and the rounding of all sums (screen.cc), rounded up.
uint8_t reach_of(int squares, int blocks) {
  const float norm = 0.5f * __builtin_sqrtf(static_cast<float>(squares));
  return static_cast<uint8_t>((norm + static_cast<float>(blocks + 8) / 4096) / kReachStep + 1.001f);
}

}  // namespace

PlaneBytes plane_bytes(DType type, int rows, int cols) noexcept {
  if (type != DType::q8_0 || cols > kMostColumns) return {0, 0, 0};
  const size_t panels = static_cast<size_t>((rows + 15) / 16);
  return {panels * coarse_bytes(cols), panels * fine_bytes(cols), panels * 16};
}

void pack_planes(const void* src, const PackedMatrix& w, int row0, int row1, uint8_t* coarse, uint8_t* fine,
                 uint8_t* reach) noexcept {
  const int blocks = w.cols / 32;
  const size_t source = static_cast<size_t>(blocks) * kSource;
  for (int row = row0; row < row1; row += 16) {
    const size_t panel = static_cast<size_t>(row / 16);
    uint8_t *to = coarse + panel * coarse_bytes(w.cols), *rest = fine + panel * fine_bytes(w.cols);
    const int count = row1 - row < 16 ? row1 - row : 16;
    int most[16] = {};
    for (int b = 0; b < blocks; b++, to += Coarse::kBlock, rest += kFineBlock) {
      const uint8_t* from = static_cast<const uint8_t*>(src) + source * static_cast<size_t>(row) + b * kSource;
      for (int lane = 0; lane < count; lane++, from += source) {
        __builtin_prefetch(from + 16 * source);  // the next panel: so many short streams are not foreseen
        const int squares = split_block(from, to, rest, lane);
        if (squares > most[lane]) most[lane] = squares;
      }
    }
    for (int lane = 0; lane < count; lane++) reach[row + lane] = reach_of(most[lane], blocks);
  }
}

}  // namespace tokensieve::kernels::TS_ISA
