// Pages of the KV cache, element by element. One function says where a code lies, one where its scale and minimum lie;
// all others follow from them.
#include "kernels/kv_page.h"

#include <cmath>
#include <cstring>

#include "core/half.h"
#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

namespace {

struct Layout {
  Side side;
  DType type;
  int head_size;

  bool keys() const { return side == Side::keys; }
  bool kivi() const { return type == DType::kivi4 || type == DType::kivi2; }
  bool quantized() const { return bits() < 16; }
  int bits() const {
    switch (type) {
      case DType::f32: return 32;
      case DType::f16:
      case DType::bf16: return 16;
      case DType::q8_0: return 8;
      case DType::kivi2: return 2;
      default: return 4;
    }
  }
  size_t code_bytes() const { return static_cast<size_t>(kPageRows) * static_cast<size_t>(head_size * bits() / 8); }
  // Numbers in each of the two side tables.
  size_t scales() const {
    if (!quantized()) return 0;
    return static_cast<size_t>(head_size);  // one for 32 elements, in a page of 32 rows
  }
  size_t bytes() const {
    const size_t all = code_bytes() + scales() * (kivi() ? 4 : 2);
    return (all + 63) / 64 * 64;
  }

  // Index of the element as it lies in memory where every element has its own place (f32, f16, bf16, q8_0).
  size_t element(int row, int c) const {
    if (type == DType::q8_0) {
      if (!keys()) return static_cast<size_t>(((c / 32 * 8 + row / 4) * 32 + c % 32) * 4 + row % 4);
      return static_cast<size_t>(((row / 16 * head_size / 4 + c / 4) * 16 + row % 16) * 4 + c % 4);
    }
    if (!keys()) return static_cast<size_t>(row * head_size + c);
    return static_cast<size_t>((row / 16 * head_size + c) * 16 + row % 16);
  }
  // Byte and lowest bit of a code that shares its byte.
  size_t byte(int row, int c, int* shift) const {
    const int step = type == DType::kivi2 ? 8 : 4;  // channels of a key, rows of a value in 4 bytes
    const int lane = keys() ? row % 16 : c % 16, of_lane = keys() ? c : row;
    const int block = keys() ? c / step : c / 32 * (kPageRows / step) + row / step;
    *shift = (keys() ? row / 16 : c % 32 / 16) * bits() + of_lane % step / 4 * 4;
    return static_cast<size_t>((block * 16 + lane) * 4 + of_lane % 4);
  }
  size_t scale(int row, int c) const {
    if (!keys()) return static_cast<size_t>(c / 32 * kPageRows + row);
    if (kivi()) return static_cast<size_t>(c);
    return static_cast<size_t>((row / 16 * (head_size / 32) + c / 32) * 16 + row % 16);
  }
};

uint16_t load16(const uint8_t* table, size_t i) {
  uint16_t h;
  std::memcpy(&h, table + 2 * i, 2);
  return h;
}
void store16(uint8_t* table, size_t i, uint16_t h) { std::memcpy(table + 2 * i, &h, 2); }

int get_code(const Layout& at, const uint8_t* page, int row, int c) {
  if (at.type == DType::q8_0) return page[at.element(row, c)] - 128;
  int shift;
  const uint8_t byte = page[at.byte(row, c, &shift)];
  return byte >> shift & ((1 << at.bits()) - 1);
}

void put_code(const Layout& at, uint8_t* page, int row, int c, int code) {
  if (at.type == DType::q8_0) {
    page[at.element(row, c)] = static_cast<uint8_t>(code + 128);
    return;
  }
  int shift;
  uint8_t& byte = page[at.byte(row, c, &shift)];
  const int mask = ((1 << at.bits()) - 1) << shift;
  byte = static_cast<uint8_t>((byte & ~mask) | code << shift);
}

float get(const Layout& at, const uint8_t* page, int row, int c) {
  switch (at.type) {
    case DType::f32: {
      float x;
      std::memcpy(&x, page + 4 * at.element(row, c), 4);
      return x;
    }
    case DType::f16: return f16_to_float(load16(page, at.element(row, c)));
    case DType::bf16: return bf16_to_float(load16(page, at.element(row, c)));
    default: break;
  }
  const int code = get_code(at, page, row, c);
  const uint8_t* scales = page + at.code_bytes();
  const float scale = f16_to_float(load16(scales, at.scale(row, c)));
  if (!at.kivi()) return static_cast<float>(at.type == DType::q4_0 ? code - 8 : code) * scale;
  const float product = static_cast<float>(code) * scale;
  return product + f16_to_float(load16(scales + 2 * at.scales(), at.scale(row, c)));
}

void put_plain(const Layout& at, uint8_t* page, int row, int c, float x) {
  if (at.type == DType::f32) std::memcpy(page + 4 * at.element(row, c), &x, 4);
  if (at.type == DType::f16) store16(page, at.element(row, c), float_to_f16(x));
  if (at.type == DType::bf16) store16(page, at.element(row, c), float_to_bf16(x));
}

// 32 channels of one row from c on: q8_0 and q4_0, as kernel quantize.
void put_block(const Layout& at, uint8_t* page, int row, int c, const float* x) {
  float peak = 0;
  for (int i = 0; i < 32; i++) {
    if (std::fabs(x[i]) > std::fabs(peak)) peak = x[i];
  }
  const float scale = at.type == DType::q8_0 ? std::fabs(peak) / 127 : peak / -8;
  const float inverse = std::fabs(scale) > 1e-30f ? 1 / scale : 0;  // smaller ones are 0 in f16
  for (int i = 0; i < 32; i++) {
    int code = static_cast<int>(std::nearbyint(x[i] * inverse));
    if (at.type == DType::q4_0) code = code + 8 > 15 ? 15 : code + 8;
    put_code(at, page, row, c + i, code);
  }
  store16(page + at.code_bytes(), at.scale(row, c), float_to_f16(scale));
}

// 32 numbers that share a scale and a minimum; element i lies at (row + i * down, c + i * right).
void put_group(const Layout& at, uint8_t* page, int row, int c, int down, int right, const float* x, size_t step) {
  float low = x[0], high = x[0];
  for (int i = 1; i < 32; i++) {
    low = std::fmin(low, x[i * step]);
    high = std::fmax(high, x[i * step]);
  }
  const int top = (1 << at.bits()) - 1;
  const uint16_t low16 = float_to_f16(low), scale16 = float_to_f16((high - low) / static_cast<float>(top));
  const float scale = f16_to_float(scale16), min = f16_to_float(low16);  // codes are chosen for what will be read back
  for (int i = 0; i < 32; i++) {
    const float code = scale > 0 ? (x[i * step] - min) / scale : 0;
    const float bounded = std::fmin(std::fmax(code, 0), static_cast<float>(top));
    put_code(at, page, row + i * down, c + i * right, static_cast<int>(std::nearbyint(bounded)));
  }
  uint8_t* scales = page + at.code_bytes();
  store16(scales, at.scale(row, c), scale16);
  store16(scales + 2 * at.scales(), at.scale(row, c), low16);
}

}  // namespace

size_t page_bytes(Side side, DType type, int head_size) noexcept { return Layout{side, type, head_size}.bytes(); }

void store_rows(int head_size, const StoreJob* jobs, int count, Team&) noexcept {
  for (const StoreJob* job = jobs; job < jobs + count; job++) {
    const Layout at{job->side, job->type, head_size};
    const float* x = job->x;
    for (int row = job->first; row < job->first + job->n; row++, x += job->ldx) {
      for (int c = 0; c < head_size; c += at.quantized() ? 32 : 1) {
        if (!at.quantized()) {
          put_plain(at, job->page, row, c, x[c]);
        } else if (at.kivi()) {
          put_group(at, job->page, row, c, 0, 1, x + c, 1);
        } else {
          put_block(at, job->page, row, c, x + c);
        }
      }
    }
  }
}

void store_kivi_keys(DType type, int head_size, const float* x, size_t ldx, uint8_t* page, Team&) noexcept {
  const Layout at{Side::keys, type, head_size};
  for (int c = 0; c < head_size; c++) put_group(at, page, 0, c, 1, 0, x + c, ldx);
}

void load_rows(Side side, int head_size, Piece piece, float* y, size_t ldy, Team&) noexcept {
  const Layout at{side, piece.type, head_size};
  for (int i = 0; i < piece.count; i++, y += ldy) {
    for (int c = 0; c < head_size; c++) y[c] = get(at, piece.page, piece.first + i, c);
  }
}

void copy_row(Side side, DType type, int head_size, const uint8_t* from, int from_row, uint8_t* to, int to_row,
              Team&) noexcept {
  const Layout at{side, type, head_size};
  const size_t width = static_cast<size_t>(at.bits() / 8);
  for (int c = 0; c < head_size; c++) {
    if (!at.quantized()) {
      std::memcpy(to + width * at.element(to_row, c), from + width * at.element(from_row, c), width);
      continue;
    }
    put_code(at, to, to_row, c, get_code(at, from, from_row, c));
    for (int table = 0; table < (at.kivi() ? 2 : 1); table++) {
      const size_t start = at.code_bytes() + 2 * at.scales() * static_cast<size_t>(table);
      store16(to + start, at.scale(to_row, c), load16(from + start, at.scale(from_row, c)));
    }
  }
}

}  // namespace tokensieve::kernels::reference
