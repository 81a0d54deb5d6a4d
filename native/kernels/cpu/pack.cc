// GGUF rows -> panels (panel.h). Words of 4 columns move as they are; nothing is rounded.
#include "kernels/cpu/functions.h"
#include "kernels/cpu/panel.h"

namespace tokensieve::kernels::TS_ISA {
namespace {

TS_INLINE uint32_t word(const uint8_t* p) {
  uint32_t w;
  __builtin_memcpy(&w, p, 4);
  return w;
}
TS_INLINE void put(uint8_t* group, int lane, uint32_t w) { __builtin_memcpy(group + 4 * lane, &w, 4); }
TS_INLINE void put_half(uint8_t* halves, int lane, const uint8_t* from) {
  __builtin_memcpy(halves + 2 * lane, from, 2);
}

TS_INLINE void copy_nibbles(uint8_t* block, int lane, const uint8_t* from) {
  for (int g = 0; g < 4; g++) put(block + 64 * g, lane, word(from + 4 * g));
}

// Fifth bits of a block: bit 4 g + j of `bits` (column 4 g + j) goes to bit kPlane[g] of byte j. The index of a bit is
// (g2 g1 g0 j1 j0); it becomes (j1 j0 g0 g2 g1) by two exchanges of index bits.
TS_INLINE uint32_t fifth_bits(uint32_t bits) {
  uint32_t t = (bits ^ (bits >> 14)) & 0x0000ccccu;
  bits ^= t ^ (t << 14);
  t = (bits ^ (bits >> 7)) & 0x00aa00aau;
  return bits ^ t ^ (t << 7);
}

// Each source describes one GGUF block and writes lane `lane` of its packed group of blocks.
struct FromQ8_0 : Q8_0 {
  static constexpr int kSource = 34;
  static TS_INLINE void pack(const uint8_t* from, uint8_t* to, int lane) {
    const uint32_t flip = kBias8 == 128 ? 0x80808080u : 0;
    for (int g = 0; g < 8; g++) put(to + 64 * g, lane, word(from + 2 + 4 * g) ^ flip);
    put_half(to + 512, lane, from);
  }
};

struct FromQ4_0 : Q4_0 {
  static constexpr int kSource = 18;
  static TS_INLINE void pack(const uint8_t* from, uint8_t* to, int lane) {
    copy_nibbles(to, lane, from + 2);
    put_half(to + 256, lane, from);
  }
};

struct FromQ4_1 : Q4_1 {
  static constexpr int kSource = 20;
  static TS_INLINE void pack(const uint8_t* from, uint8_t* to, int lane) {
    copy_nibbles(to, lane, from + 4);
    put_half(to + 256, lane, from);
    put_half(to + 288, lane, from + 2);
  }
};

struct FromQ5_0 : Q5_0 {
  static constexpr int kSource = 22;
  static TS_INLINE void pack(const uint8_t* from, uint8_t* to, int lane) {
    copy_nibbles(to, lane, from + 6);
    put(to + 256, lane, fifth_bits(word(from + 2)));
    put_half(to + 320, lane, from);
  }
};

struct FromQ5_1 : Q5_1 {
  static constexpr int kSource = 24;
  static TS_INLINE void pack(const uint8_t* from, uint8_t* to, int lane) {
    copy_nibbles(to, lane, from + 8);
    put(to + 256, lane, fifth_bits(word(from + 4)));
    put_half(to + 320, lane, from);
    put_half(to + 352, lane, from + 2);
  }
};

// The 12 bytes of q4_k and q5_k (see reference/quantize.cc): scale and minimum of block s.
TS_INLINE void scale_min(const uint8_t* p, int s, uint8_t* scale, uint8_t* min) {
  if (s < 4) {
    *scale = p[s] & 63;
    *min = p[s + 4] & 63;
  } else {
    *scale = static_cast<uint8_t>((p[s + 4] & 15) | (p[s - 4] >> 6) << 4);
    *min = static_cast<uint8_t>(p[s + 4] >> 4 | (p[s] >> 6) << 4);
  }
}

template <class W, int codes, bool five>
TS_INLINE void pack_nested(const uint8_t* from, uint8_t* to, int lane) {
  put_half(to, lane, from);
  put_half(to + 32, lane, from + 2);
  for (int s = 0; s < 8; s++) {
    uint8_t* block = to + W::kHead + W::kBlock * s;
    const uint8_t* nibbles = from + codes + 32 * (s / 2);
    for (int g = 0; g < 4; g++) {  // block s is nibble s % 2 of 32 bytes: columns 4 g.. low, 16 + 4 g.. high
      const uint32_t low = word(nibbles + 4 * g) >> (s % 2 * 4) & 0x0f0f0f0fu;
      const uint32_t high = word(nibbles + 16 + 4 * g) >> (s % 2 * 4) & 0x0f0f0f0fu;
      put(block + 64 * g, lane, low | high << 4);
    }
    uint32_t fifth = 0;
    for (int g = 0; five && g < 8; g++) fifth |= (word(from + 16 + 4 * g) >> s & 0x01010101u) << kPlane[g];
    if (five) put(block + 256, lane, fifth);
    uint8_t* scales = block + W::kCodeBytes;
    scale_min(from + 4, s, scales + lane, scales + 16 + lane);
  }
}

struct FromQ4_K : Q4_K {
  static constexpr int kSource = 144;
  static TS_INLINE void pack(const uint8_t* from, uint8_t* to, int lane) {
    pack_nested<Q4_K, 16, false>(from, to, lane);
  }
};

struct FromQ5_K : Q5_K {
  static constexpr int kSource = 176;
  static TS_INLINE void pack(const uint8_t* from, uint8_t* to, int lane) {
    pack_nested<Q5_K, 48, true>(from, to, lane);
  }
};

struct FromQ6_K : Q6_K {
  static constexpr int kSource = 210;
  static TS_INLINE void pack(const uint8_t* from, uint8_t* to, int lane) {
    put_half(to, lane, from + 208);
    for (int s = 0; s < 8; s++) {
      uint8_t* block = to + kHead + kBlock * s;
      const uint8_t* nibbles = from + 64 * (s / 4) + 32 * (s % 2);  // nibble (s % 4) / 2 of these 32 bytes
      const uint8_t* pairs = from + 128 + 32 * (s / 4);             // pair s % 4
      const int shift = s % 4 / 2 * 4, pair = s % 4 * 2;
      uint32_t tops[2] = {0, 0};
      for (int g = 0; g < 4; g++) {
        const uint32_t low = word(nibbles + 4 * g) >> shift & 0x0f0f0f0fu;
        const uint32_t high = word(nibbles + 16 + 4 * g) >> shift & 0x0f0f0f0fu;
        put(block + 64 * g, lane, low | high << 4);
        for (int h = 0; h < 2; h++) tops[h] |= (word(pairs + 16 * h + 4 * g) >> pair & 0x03030303u) << (2 * g);
      }
      for (int h = 0; h < 2; h++) {
        put(block + 256 + 64 * h, lane, tops[h]);
        block[kCodeBytes + 16 * h + lane] = from[192 + 2 * s + h];
      }
    }
  }
};

// The rows of one panel; absent rows are null. Bytes so far ahead are asked for as rows are read: 16 short streams are
// not foreseen by the processor, and a model is read once, from memory.
struct Rows {
  const uint8_t* at[16];
  size_t ahead;
};
constexpr size_t kFar = 16384, kNear = 1024;  // the next panel where it is near, else further on in the row

template <class S>
void pack_blocks(const Rows& rows, int cols, uint8_t* panel) {
  for (int b = 0; b < cols / 32; b += S::kGroup) {
    uint8_t* to = panel + static_cast<size_t>(b / S::kGroup) * (S::kHead + S::kGroup * S::kBlock);
    const size_t from = static_cast<size_t>(b / S::kGroup) * S::kSource;
    for (int lane = 0; lane < 16; lane++) {
      if (rows.at[lane] == nullptr) continue;
      __builtin_prefetch(rows.at[lane] + from + rows.ahead);
      S::pack(rows.at[lane] + from, to, lane);
    }
  }
}

// [cols / pair][16][pair] elements of `size` bytes.
template <int size, int pair>
void pack_elements(const Rows& rows, int cols, uint8_t* panel) {
  for (int lane = 0; lane < 16; lane++) {
    if (!rows.at[lane]) continue;
    const uint8_t* from = rows.at[lane];
    uint8_t* to = panel + lane * pair * size;
    for (int k = 0; k + pair <= cols; k += pair, to += 16 * pair * size) {
      __builtin_memcpy(to, from + static_cast<size_t>(k) * size, pair * size);
    }
    if (cols % pair) __builtin_memcpy(to, from + static_cast<size_t>(cols - 1) * size, size);
  }
}

void pack_panel(DType type, const Rows& rows, int cols, uint8_t* panel) {
  switch (type) {
    case DType::f32: return pack_elements<4, 1>(rows, cols, panel);
    case DType::f16: return pack_elements<2, 1>(rows, cols, panel);
    case DType::bf16: return pack_elements<2, kPairs ? 2 : 1>(rows, cols, panel);
    case DType::q8_0: return pack_blocks<FromQ8_0>(rows, cols, panel);
    case DType::q4_0: return pack_blocks<FromQ4_0>(rows, cols, panel);
    case DType::q4_1: return pack_blocks<FromQ4_1>(rows, cols, panel);
    case DType::q5_0: return pack_blocks<FromQ5_0>(rows, cols, panel);
    case DType::q5_1: return pack_blocks<FromQ5_1>(rows, cols, panel);
    case DType::q4_k: return pack_blocks<FromQ4_K>(rows, cols, panel);
    case DType::q5_k: return pack_blocks<FromQ5_K>(rows, cols, panel);
    case DType::q6_k: return pack_blocks<FromQ6_K>(rows, cols, panel);
    case DType::kivi4:
    case DType::kivi2: return;
  }
}

}  // namespace

size_t packed_bytes(DType type, int rows, int cols) noexcept {
  return panel_bytes(type, cols) * static_cast<size_t>((rows + 15) / 16);
}

void pack(DType type, const void* src, int rows, int cols, const int32_t* map, int row0, int row1,
          uint8_t* out) noexcept {
  const DTypeTraits& t = traits(type);
  const size_t source = static_cast<size_t>(cols / t.block) * static_cast<size_t>(t.bytes);
  const size_t bytes = panel_bytes(type, cols);
  for (int row = row0; row < row1; row += 16) {
    Rows panel;
    panel.ahead = 16 * source <= kFar ? 16 * source : kNear;
    for (int lane = 0; lane < 16; lane++) {
      const int r = row + lane;
      panel.at[lane] =
          r >= rows ? nullptr : static_cast<const uint8_t*>(src) + source * static_cast<size_t>(map ? map[r] : r);
    }
    uint8_t* to = out + bytes * static_cast<size_t>(row / 16);
    if (row + 16 > rows || cols % 2) __builtin_memset(to, 0, bytes);
    pack_panel(type, panel, cols, to);
  }
}

}  // namespace tokensieve::kernels::TS_ISA
