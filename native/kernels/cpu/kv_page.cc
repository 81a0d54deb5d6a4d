// Rows into pages: converted or quantized row by row in registers, then laid beside each other (keys) or one after the
// other.
#include "kernels/kv_page.h"

#include "kernels/cpu/functions.h"
#include "kernels/cpu/kv_expand.h"
#include "kernels/cpu/page_layout.h"
#include "kernels/cpu/tasks.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

// One row in its stored form: its numbers or, quantized, a byte for the code of each channel; a scale and (kivi) a
// minimum for every 32 channels.
struct Row {
  alignas(64) uint8_t codes[kMaxHeadSize * 4];
  uint16_t scale[16], min[16];
};

void convert(DType type, int head_size, const float* x, Row* row) {
  for (int c = 0; c < head_size; c += 16) {
    if (type == DType::f32) store(reinterpret_cast<float*>(row->codes) + c, load(x + c));
    if (type == DType::f16) store_f16(row->codes + 2 * c, load(x + c));
    if (type == DType::bf16) store_bf16(row->codes + 2 * c, load(x + c));
  }
}

// The value of largest magnitude, the first one of several.
float peak(const float* x, float magnitude) {
  for (int i = 0; i < 32; i++) {
    if (x[i] == magnitude || x[i] == -magnitude) return x[i];
  }
  return 0;
}

void quantize_row(DType type, int head_size, const float* x, Row* row) {
  float scales[16] = {};
  for (int g = 0; g < head_size / 32; g++, x += 32) {
    const F a = load(x), b = load(x + 16);
    const float magnitude = reduce_max(max(abs(a), abs(b)));
    const float scale = type == DType::q8_0 ? magnitude / 127 : peak(x, magnitude) / -8;
    const F inverse = set1(scale > 1e-30f || scale < -1e-30f ? 1 / scale : 0);  // smaller ones are 0 in f16
    const I p = to_i32(mul(a, inverse)), q = to_i32(mul(b, inverse));
    scales[g] = scale;
    const I zero = set1i(type == DType::q8_0 ? 0 : 8), top = set1i(type == DType::q8_0 ? 127 : 15);
    store_i8(row->codes + 32 * g, mini(addi(p, zero), top));
    store_i8(row->codes + 32 * g + 16, mini(addi(q, zero), top));
  }
  for (int c = 0; type == DType::q8_0 && c < head_size; c++) row->codes[c] ^= 128;
  store_f16(row->scale, load(scales));
}

// What 16 numbers are coded against: the minimum and scale as they will be read back.
struct Range {
  F min, scale;
};

Range kivi_range(F low, F high, float top, uint16_t* scale, uint16_t* min) {
  store_f16(scale, div(sub(high, low), set1(top)));
  store_f16(min, low);
  return {load_f16(min), load_f16(scale)};
}

I kivi_codes(F x, const Range& range, float top) {
  const F code = max(min(div(sub(x, range.min), range.scale), set1(top)), zero());
  return to_i32(select_less(zero(), range.scale, code, zero()));
}

void kivi_row(DType type, int head_size, const float* x, Row* row) {
  const float top = type == DType::kivi4 ? 15.0f : 3.0f;
  for (int g = 0; g < head_size / 32; g++, x += 32) {
    const F a = load(x), b = load(x + 16);
    const F high = set1(reduce_max(max(a, b)));
    const F low = set1(-reduce_max(max(sub(zero(), a), sub(zero(), b))));
    uint16_t scale[16], min[16];
    const Range range = kivi_range(low, high, top, scale, min);
    row->scale[g] = scale[0];
    row->min[g] = min[0];
    store_i8(row->codes + 32 * g, kivi_codes(a, range, top));
    store_i8(row->codes + 32 * g + 16, kivi_codes(b, range, top));
  }
}

// The n units of a row go to (or come from) every 16th place.
template <size_t kBytes, size_t kFromStep, size_t kToStep>
void spread(const uint8_t* from, uint8_t* to, int n) {
  for (int i = 0; i < n; i++) {
    __builtin_memcpy(to, from, kBytes);
    from += kBytes * kFromStep;
    to += kBytes * kToStep;
  }
}

template <size_t kFromStep, size_t kToStep>
void spread_plain(DType type, int head_size, const uint8_t* from, uint8_t* to) {
  if (type == DType::f32) return spread<4, kFromStep, kToStep>(from, to, head_size);
  spread<2, kFromStep, kToStep>(from, to, head_size);
}

// Where rows that share bytes with others have their nibbles: n words of 4 bytes, 64 apart.
void put_nibbles(const uint8_t* from, size_t step, int from_shift, uint8_t* to, int to_shift, int n) {
  for (int i = 0; i < n; i++, from += step, to += 64) {
    uint32_t x, y;
    __builtin_memcpy(&x, from, 4);
    __builtin_memcpy(&y, to, 4);
    y = (y & ~(0x0f0f0f0fu << to_shift)) | (x >> from_shift & 0x0f0f0f0f) << to_shift;
    __builtin_memcpy(to, &y, 4);
  }
}

// First byte of row r in a key page; for q4_0 that of r % 16.
size_t key_start(DType type, int head_size, int r) {
  if (type == DType::q4_0) return static_cast<size_t>(4 * (r % 16));
  const int unit = is_plain(type) ? code_bits(type) / 8 : 4;
  return key_block_bytes(type, head_size) * static_cast<size_t>(r / 16) + static_cast<size_t>(unit * (r % 16));
}

void place_key_row(DType type, int head_size, const Row& row, uint8_t* page, int r) {
  uint8_t* to = page + key_start(type, head_size, r);
  if (is_plain(type)) return spread_plain<1, 16>(type, head_size, row.codes, to);
  if (type == DType::q8_0) spread<4, 1, 16>(row.codes, to, head_size / 4);
  if (type == DType::q4_0) put_nibbles(row.codes, 4, 0, to, r / 16 * 4, head_size / 4);
  uint16_t* scales = page_scales(page, type, head_size) + r / 16 * (head_size / 2) + r % 16;
  for (int g = 0; g < head_size / 32; g++) scales[16 * g] = row.scale[g];
}

void place_value_row(DType type, int head_size, const Row& row, uint8_t* page, int r) {
  if (is_plain(type)) {
    const size_t bytes = value_row_bytes(type, head_size);
    __builtin_memcpy(page + bytes * static_cast<size_t>(r), row.codes, bytes);
    return;
  }
  const int shift = r % 8 / 4 * 4;
  const uint8_t* code = row.codes;
  for (int g = 0; g < head_size / 32; g++, code += 32) {
    uint8_t* y = page + value_group_bytes(type) * static_cast<size_t>(g) + r % 4;
    y += type == DType::q8_0 ? r / 4 * 128 : type == DType::kivi2 ? r / 8 * 64 : r / 4 * 64;
    for (int i = 0; type == DType::q8_0 && i < 32; i++) y[4 * i] = code[i];
    for (int i = 0; code_bits(type) == 4 && i < 16; i++) y[4 * i] = static_cast<uint8_t>(code[i] | code[i + 16] << 4);
    for (int i = 0; type == DType::kivi2 && i < 16; i++) {
      y[4 * i] = static_cast<uint8_t>((y[4 * i] & ~(15 << shift)) | (code[i] | code[i + 16] << 2) << shift);
    }
  }
  uint16_t* scales = page_scales(page, type, head_size) + r;
  for (int g = 0; g < head_size / 32; g++) scales[kPageRows * g] = row.scale[g];
  for (int g = 0; is_kivi(type) && g < head_size / 32; g++) scales[head_size + kPageRows * g] = row.min[g];
}

void copy_key_row(DType type, int head_size, const uint8_t* from, int from_row, uint8_t* to, int to_row) {
  const uint8_t* x = from + key_start(type, head_size, from_row);
  uint8_t* y = to + key_start(type, head_size, to_row);
  if (is_plain(type)) return spread_plain<16, 16>(type, head_size, x, y);
  if (type == DType::q8_0) spread<4, 16, 16>(x, y, head_size / 4);
  if (type == DType::q4_0) put_nibbles(x, 64, from_row / 16 * 4, y, to_row / 16 * 4, head_size / 4);
  const uint16_t* s = page_scales(from, type, head_size) + from_row / 16 * (head_size / 2) + from_row % 16;
  uint16_t* t = page_scales(to, type, head_size) + to_row / 16 * (head_size / 2) + to_row % 16;
  for (int g = 0; g < head_size / 32; g++) t[16 * g] = s[16 * g];
}

// One group of 32 channels.
void copy_value_codes(DType type, const uint8_t* from, int from_row, uint8_t* to, int to_row) {
  const int rows = type == DType::kivi2 ? 8 : 4, bytes = type == DType::q8_0 ? 128 : 64;
  from += from_row / rows * bytes + from_row % 4;
  to += to_row / rows * bytes + to_row % 4;
  if (type != DType::kivi2) return spread<1, 4, 4>(from, to, bytes / 4);
  const int from_shift = from_row % 8 / 4 * 4, to_shift = to_row % 8 / 4 * 4;
  for (int i = 0; i < bytes; i += 4) {
    to[i] = static_cast<uint8_t>((to[i] & ~(15 << to_shift)) | (from[i] >> from_shift & 15) << to_shift);
  }
}

void copy_value_row(DType type, int head_size, const uint8_t* from, int from_row, uint8_t* to, int to_row) {
  if (is_plain(type)) {
    const size_t bytes = value_row_bytes(type, head_size);
    __builtin_memcpy(to + bytes * static_cast<size_t>(to_row), from + bytes * static_cast<size_t>(from_row), bytes);
    return;
  }
  const size_t bytes = value_group_bytes(type);
  for (size_t g = 0; g < static_cast<size_t>(head_size / 32); g++) {
    copy_value_codes(type, from + bytes * g, from_row, to + bytes * g, to_row);
  }
  const int tables = is_kivi(type) ? 2 * head_size : head_size;
  for (int i = 0; i < tables; i += kPageRows) {
    page_scales(to, type, head_size)[i + to_row] = page_scales(from, type, head_size)[i + from_row];
  }
}

}  // namespace

size_t page_bytes(Side, DType type, int head_size) noexcept {
  const size_t tables = is_plain(type) ? 0 : is_kivi(type) ? 2 : 1;
  return (code_bytes(type, head_size) + tables * 2 * static_cast<size_t>(head_size) + 63) / 64 * 64;
}

namespace {

struct Storing {
  int head_size;
  const StoreJob* jobs;
};

void store_job(void* context, int index, int) {
  const Storing& all = *static_cast<const Storing*>(context);
  const StoreJob& job = all.jobs[index];
  const float* x = job.x;
  Row row;
  for (int r = job.first; r < job.first + job.n; r++, x += job.ldx) {
    if (is_plain(job.type)) {
      convert(job.type, all.head_size, x, &row);
    } else if (is_kivi(job.type)) {
      kivi_row(job.type, all.head_size, x, &row);
    } else {
      quantize_row(job.type, all.head_size, x, &row);
    }
    if (job.side == Side::keys) {
      place_key_row(job.type, all.head_size, row, job.page, r);
    } else {
      place_value_row(job.type, all.head_size, row, job.page, r);
    }
  }
}

}  // namespace

void store_rows(int head_size, const StoreJob* jobs, int count, Team& team) noexcept {
  Storing all{head_size, jobs};
  size_t rows = 0;
  for (int i = 0; i < count; i++) rows += static_cast<size_t>(jobs[i].n);
  if (rows * static_cast<size_t>(head_size) >= kAloneElements) return team.run(count, store_job, &all);
  for (int i = 0; i < count; i++) store_job(&all, i, 0);
}

void store_kivi_keys(DType type, int head_size, const float* x, size_t ldx, uint8_t* page, Team&) noexcept {
  const float top = type == DType::kivi4 ? 15.0f : 3.0f;
  uint16_t* scales = page_scales(page, type, head_size);
  uint8_t code[kPageRows][16];
  for (int c = 0; c < head_size; c += 16) {
    F low = load(x + c), high = low;
    for (size_t r = 1; r < kPageRows; r++) {
      low = min(low, load(x + r * ldx + c));
      high = max(high, load(x + r * ldx + c));
    }
    const Range range = kivi_range(low, high, top, scales + c, scales + head_size + c);
    for (size_t r = 0; r < kPageRows; r++) store_i8(code[r], kivi_codes(load(x + r * ldx + c), range, top));
    for (int i = 0; type == DType::kivi4 && i < 16; i++) {
      uint8_t* y = page + (c + i) / 4 * 64 + i % 4;
      for (int r = 0; r < 16; r++) y[4 * r] = static_cast<uint8_t>(code[r][i] | code[r + 16][i] << 4);
    }
    for (int i = 0; type == DType::kivi2 && i < 16; i += i % 4 == 3 ? 5 : 1) {  // with the channel 4 further
      uint8_t* y = page + (c + i) / 8 * 64 + i % 4;
      for (int r = 0; r < 16; r++) {
        const int low = code[r][i] | code[r + 16][i] << 2, high = code[r][i + 4] | code[r + 16][i + 4] << 2;
        y[4 * r] = static_cast<uint8_t>(low | high << 4);
      }
    }
  }
}

void copy_row(Side side, DType type, int head_size, const uint8_t* from, int from_row, uint8_t* to, int to_row,
              Team&) noexcept {
  if (side == Side::keys) return copy_key_row(type, head_size, from, from_row, to, to_row);
  copy_value_row(type, head_size, from, from_row, to, to_row);
}

// Keys lie across: 16 rows are opened at once and turned.
void load_rows(Side side, int head_size, Piece piece, float* y, size_t ldy, Team&) noexcept {
  if (side == Side::values) return open_value_rows(piece.type, head_size, piece.page, piece.first, piece.count, y, ldy);
  alignas(64) float block[16 * kMaxHeadSize];
  const int end = piece.first + piece.count;
  for (int r = piece.first, opened = -1; r < end; r++, y += ldy) {
    if (r / 16 != opened) open_key_block(piece.type, head_size, piece.page, opened = r / 16, block);
    for (int c = 0; c < head_size; c++) y[c] = block[16 * c + r % 16];
  }
}

}  // namespace tokensieve::kernels::TS_ISA
