// Weights from GGUF rows to the panels of weights.h, by the host: a load is bound by reading the file.
#include "kernels/cuda/blocks.h"
#include "kernels/cuda/weights.h"
#include "kernels/matmul.h"

namespace tokensieve::kernels::cuda {
namespace {

// One row of a panel: row g + 8 r.
struct Row {
  const Panels& p;
  Layout l;
  uint8_t* panel;
  int g, r;

  uint8_t* lane_at(size_t section, int group, int column, int bytes) const {
    return panel + section + static_cast<size_t>((group * 32 + 4 * g + column % 16 / 4) * bytes);
  }
  uint8_t* pair_at(size_t section, int entry, int bytes) const {
    return panel + section + static_cast<size_t>((entry * 8 + g) * bytes);
  }
};

void set_bits(uint8_t* word, uint32_t bits, int at) {
  uint32_t all;
  std::memcpy(&all, word, 4);
  all |= bits << at;
  std::memcpy(word, &all, 4);
}

void put_halves(const Row& to, const uint8_t* from, int cols) {
  for (int k = 0; k < cols; k++) {
    const int s = k % 64 / 16, p = to.r + k % 4 / 2 * 2;
    std::memcpy(to.lane_at(0, k / 64 * 4 + s, k, 16) + 4 * p + k % 2 * 2, from + 2 * static_cast<size_t>(k), 2);
  }
}

void put_codes(const Row& to, int group, const Codes& c) {
  for (int k = 0; k < c.count; k++) {
    const int s = k / 16, p = to.r + k % 4 / 2 * 2, odd = k % 2;
    const uint32_t code = c.code[k];
    if (to.l.codes == 32) {
      to.lane_at(0, group * 2 + s / 2, k, 16)[(s % 2 * 2 + p / 2) * 4 + to.r + 2 * odd] = static_cast<uint8_t>(code);
      continue;
    }
    set_bits(to.lane_at(0, group, k, 16) + 4 * s, code & 15, 4 * p + 16 * odd);
    if (to.l.high == 4) set_bits(to.lane_at(to.p.high, group, k, 4), code >> 4, 4 * s + p + 16 * odd);
    if (to.l.high == 8) {
      set_bits(to.lane_at(to.p.high, group, k, 8) + s / 2 * 4, code >> 4, 2 * (s % 2 * 4 + p) + 16 * odd);
    }
  }
}

// Scales as they are in the blocks.
void put_scales(DType type, const Row& to, int group, int count, const uint8_t* row) {
  const size_t bytes = static_cast<size_t>(traits(type).bytes);
  uint8_t* const pair = to.pair_at(to.p.scale, group, to.l.scale);
  if (to.l.super == 0) {
    for (int i = 0; i < count / 32; i++) {
      const uint8_t* block = row + static_cast<size_t>(group * 2 + i) * bytes;
      uint8_t* const at = pair + i * to.l.scale / 2 + 2 * to.r;
      std::memcpy(at, block, 2);
      if (has_minimum(type)) std::memcpy(at + 4, block + 2, 2);
    }
    return;
  }
  const uint8_t* block = row + static_cast<size_t>(group / 4) * bytes;
  uint8_t* const super = to.pair_at(to.p.super, group / 4, to.l.super) + 2 * to.r;
  std::memcpy(super, block + (type == DType::q6_k ? 208 : 0), 2);
  if (type == DType::q6_k) {
    for (int s = 0; s < 4; s++) pair[2 * s + to.r] = block[192 + group % 4 * 4 + s];
    return;
  }
  std::memcpy(super + 4, block + 2, 2);
  for (int i = 0; i < 2; i++)
    scale_and_minimum(block + 4, group % 4 * 2 + i, pair + 4 * i + to.r, pair + 4 * i + 2 + to.r);
}

void put_row(DType type, const Row& to, const uint8_t* from, int cols) {
  if (to.l.codes == 64) return put_halves(to, from, cols);
  for (int group = 0; group < to.p.groups; group++) {
    Codes c;
    read_codes(type, from, group, static_cast<size_t>(cols), &c);
    put_codes(to, group, c);
    put_scales(type, to, group, c.count, from);
  }
}

size_t panel_bytes(DType type, int cols) {
  return type == DType::f32 ? static_cast<size_t>(cols) * kPanel * sizeof(float)
                            : panels_of(type, nullptr, kPanel, cols).bytes;
}

}  // namespace

size_t packed_bytes(DType type, int rows, int cols) noexcept {
  return static_cast<size_t>((rows + kPanel - 1) / kPanel) * panel_bytes(type, cols);
}

void pack(DType type, const void* src, int rows, int cols, const int32_t* map, int row0, int row1,
          uint8_t* out) noexcept {
  const Panels p = panels_of(type, out, rows, cols);
  const size_t from_bytes = row_bytes(type, static_cast<size_t>(cols)), to_bytes = panel_bytes(type, cols);
  for (int first = row0; first < row1; first += kPanel) {
    uint8_t* const panel = out + to_bytes * static_cast<size_t>(first / kPanel);
    std::memset(panel, 0, to_bytes);
    for (int i = 0; i < kPanel && first + i < row1; i++) {
      const size_t source = static_cast<size_t>(map ? map[first + i] : first + i);
      const uint8_t* from = static_cast<const uint8_t*>(src) + from_bytes * source;
      if (type == DType::f32) {
        std::memcpy(panel + from_bytes * static_cast<size_t>(i), from, from_bytes);
      } else {
        put_row(type, Row{p, layout_of(type), panel, i % 8, i / 8}, from, cols);
      }
    }
  }
}

}  // namespace tokensieve::kernels::cuda
