// Pages of the KV cache: the same bytes as the CPU's. A block a job (rows of one page). Rows that share bytes are 4 or 16
// apart, so a warp takes every fourth row and a lane the same channels of each: no two threads write one byte.
//
// Limit: the launch. A decode step stores one row of each head and side, 2 KB at most; a prompt's rows are read once
// (coalesced) and written once, by bytes in the second-level cache.
#include "kernels/kv_page.h"

#include "kernels/cuda/page.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

// Byte of a code, and where in it the code begins.
struct CodeAt {
  size_t byte;
  int shift;
};

__device__ __forceinline__ CodeAt code_at(Side side, DType type, int head_size, int row, int c) {
  const bool keys = side == Side::keys;
  if (type == DType::q8_0) {
    const int word = keys ? (row / 16 * (head_size / 4) + c / 4) * 16 + row % 16 : (c / 32 * 8 + row / 4) * 32 + c % 32;
    return {static_cast<size_t>(word) * 4 + (keys ? c : row) % 4, 0};
  }
  const int step = type == DType::kivi2 ? 8 : 4, along = keys ? c : row;
  const int word = keys ? c / step * 16 + row % 16 : (c / 32 * (kPageRows / step) + row / step) * 16 + c % 16;
  const int half = keys ? row / 16 : c % 32 / 16;
  return {static_cast<size_t>(word) * 4 + along % 4, half * code_bits(type) + along % step / 4 * 4};
}

__device__ __forceinline__ void put_bits(uint8_t* byte, int shift, int bits, int code) {
  const int mask = ((1 << bits) - 1) << shift;
  *byte = static_cast<uint8_t>((*byte & ~mask) | code << shift);
}

__device__ __forceinline__ int scale_at(Side side, int head_size, int row, int c) {
  return side == Side::keys ? key_scale<DType::q8_0>(head_size, row, c) : value_scale(row, c);
}

__device__ __forceinline__ int plain_place(Side side, int head_size, int row, int c) {
  return side == Side::keys ? (row / 16 * head_size + c) * 16 + row % 16 : row * head_size + c;
}

__device__ __forceinline__ void store_plain(const StoreJob& job, int head_size, const float* x, int row, int lane) {
  for (int c = lane; c < head_size; c += 32) {
    const int at = plain_place(job.side, head_size, row, c);
    if (job.type == DType::f32) {
      reinterpret_cast<float*>(job.page)[at] = x[c];
    } else {
      reinterpret_cast<uint16_t*>(job.page)[at] = job.type == DType::f16 ? float_to_half(x[c]) : float_to_bf16(x[c]);
    }
  }
}

__device__ __forceinline__ float largest(float x) {
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}

// What 32 numbers are coded against, as it is stored.
struct Scale {
  uint16_t scale, min;
};

// A number's code against what will be read back.
__device__ __forceinline__ int kivi_code(float x, Scale s, float top) {
  const float scale = half_to_float(s.scale);
  const float code = scale > 0 ? (x - half_to_float(s.min)) / scale : 0.0f;
  return __float2int_rn(fminf(fmaxf(code, 0.0f), top));
}

// One number a lane.
__device__ __forceinline__ int quantize_group(DType type, float x, Scale* s) {
  if (is_kivi(type)) {
    const float top = type == DType::kivi4 ? 15.0f : 3.0f, high = largest(x), low = -largest(-x);
    *s = {float_to_half((high - low) / top), float_to_half(low)};
    return kivi_code(x, *s, top);
  }
  const float magnitude = largest(fabsf(x));
  float scale = magnitude / 127;
  if (type == DType::q4_0) {  // the first of the largest, with its sign
    const unsigned peaks = __ballot_sync(0xffffffffu, fabsf(x) == magnitude);
    scale = __shfl_sync(0xffffffffu, x, peaks ? __ffs(static_cast<int>(peaks)) - 1 : 0) / -8;
  }
  const float inverse = fabsf(scale) > 1e-30f ? 1 / scale : 0.0f;  // smaller ones are 0 in f16
  *s = {float_to_half(scale), 0};
  const int code = __float2int_rn(x * inverse) + code_zero(type), most = type == DType::q8_0 ? 255 : 15;
  return code < most ? code : most;
}

__device__ __forceinline__ void store_quantized(const StoreJob& job, int head_size, const float* x, int row, int lane) {
  uint16_t* scales = reinterpret_cast<uint16_t*>(job.page + code_bytes(job.type, head_size));
  for (int c = lane; c < head_size; c += 32) {
    Scale s;
    const int code = quantize_group(job.type, x[c], &s);
    const int other = __shfl_xor_sync(0xffffffffu, code, 16);
    const CodeAt at = code_at(job.side, job.type, head_size, row, c);
    uint8_t* const byte = job.page + at.byte;
    const int bits = code_bits(job.type);
    if (bits == 8) {
      *byte = static_cast<uint8_t>(code);
    } else if (job.side == Side::keys) {
      put_bits(byte, at.shift, bits, code);
    } else if (lane < 16) {  // channels c and c + 16 lie beside each other
      put_bits(byte, at.shift, 2 * bits, code | other << bits);
    }
    if (lane != 0) continue;
    const int to = scale_at(job.side, head_size, row, c);
    scales[to] = s.scale;
    if (is_kivi(job.type)) scales[head_size + to] = s.min;
  }
}

}  // namespace

__global__ void store_pages(int head_size, const StoreJob* jobs) {
  const StoreJob job = jobs[blockIdx.x];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int skip = (warp + kWarps - job.first % kWarps) % kWarps;  // the warp's first row: row % kWarps == warp
  for (int i = skip; i < job.n; i += kWarps) {
    const float* x = job.x + static_cast<size_t>(i) * job.ldx;
    if (is_plain(job.type)) {
      store_plain(job, head_size, x, job.first + i, lane);
    } else {
      store_quantized(job, head_size, x, job.first + i, lane);
    }
  }
}

// A thread a channel of all 32 rows.
__global__ void store_kivi_page(DType type, int head_size, const float* x, size_t ldx, uint8_t* page) {
  const int c = blockIdx.x * 32 + threadIdx.x, bits = code_bits(type);
  const float top = type == DType::kivi4 ? 15.0f : 3.0f;
  float low = x[c], high = low;
  for (int r = 1; r < kPageRows; r++) {
    low = fminf(low, x[r * ldx + c]);
    high = fmaxf(high, x[r * ldx + c]);
  }
  const Scale s = {float_to_half((high - low) / top), float_to_half(low)};
  for (int r = 0; r < 16; r++) {
    const int code = kivi_code(x[r * ldx + c], s, top) | kivi_code(x[(r + 16) * ldx + c], s, top) << bits;
    const int other = __shfl_xor_sync(0xffffffffu, code, 4);
    uint8_t* const byte = page + code_at(Side::keys, type, head_size, r, c).byte;
    if (type == DType::kivi4) *byte = static_cast<uint8_t>(code);
    if (type == DType::kivi2 && c % 8 < 4) *byte = static_cast<uint8_t>(code | other << 4);
  }
  uint16_t* scales = reinterpret_cast<uint16_t*>(page + code_bytes(type, head_size));
  scales[c] = s.scale;
  scales[head_size + c] = s.min;
}

__global__ void load_page(Side side, int head_size, Piece piece, float* y, size_t ldy) {
  const int at = blockIdx.x * kThreads + threadIdx.x, i = at / head_size, c = at % head_size;
  if (i >= piece.count) return;
  with_page_type(piece.type, [&](auto typed) {
    constexpr DType type = decltype(typed)::type;
    y[i * ldy + c] = side == Side::keys ? key_at<type>(piece.page, head_size, piece.first + i, c)
                                        : value_at<type>(piece.page, head_size, piece.first + i, c);
  });
}

__global__ void move_row(Side side, DType type, int head_size, const uint8_t* from, int from_row, uint8_t* to,
                         int to_row) {
  const int bits = code_bits(type);
  for (int c = threadIdx.x; c < head_size; c += kThreads) {
    if (is_plain(type)) {
      const int x = plain_place(side, head_size, from_row, c), y = plain_place(side, head_size, to_row, c);
      if (bits == 32) reinterpret_cast<uint32_t*>(to)[y] = reinterpret_cast<const uint32_t*>(from)[x];
      if (bits == 16) reinterpret_cast<uint16_t*>(to)[y] = reinterpret_cast<const uint16_t*>(from)[x];
      continue;
    }
    const bool shared = side == Side::values && bits < 8;  // two channels a byte
    if (shared && c % 32 >= 16) continue;
    const CodeAt x = code_at(side, type, head_size, from_row, c), y = code_at(side, type, head_size, to_row, c);
    const int width = shared ? 2 * bits : bits;
    put_bits(to + y.byte, y.shift, width, from[x.byte] >> x.shift & ((1 << width) - 1));
    if (c % 32 != 0) continue;
    const int tables = is_kivi(type) ? 2 : 1;
    for (int t = 0; t < tables; t++) {
      const uint16_t* s = page_scales(from, type, head_size) + t * head_size + scale_at(side, head_size, from_row, c);
      uint16_t* const d = reinterpret_cast<uint16_t*>(to + code_bytes(type, head_size)) + t * head_size;
      d[scale_at(side, head_size, to_row, c)] = *s;
    }
  }
}

size_t page_bytes(Side, DType type, int head_size) noexcept {
  const size_t tables = is_plain(type) ? 0 : is_kivi(type) ? 2 : 1;
  return (code_bytes(type, head_size) + tables * 2 * static_cast<size_t>(head_size) + 63) / 64 * 64;
}

void store_rows(int head_size, const StoreJob* jobs, int count, Team& team) noexcept {
  if (count == 0) return;
  const StoreJob* there = upload(team, jobs, static_cast<size_t>(count));
  LAUNCH(store_pages, count, kThreads, 0, stream_of(team), head_size, there);
}

void store_kivi_keys(DType type, int head_size, const float* x, size_t ldx, uint8_t* page, Team& team) noexcept {
  LAUNCH(store_kivi_page, head_size / 32, 32, 0, stream_of(team), type, head_size, x, ldx, page);
}

void load_rows(Side side, int head_size, Piece piece, float* y, size_t ldy, Team& team) noexcept {
  if (piece.count == 0) return;
  const int blocks = (piece.count * head_size + kThreads - 1) / kThreads;
  LAUNCH(load_page, blocks, kThreads, 0, stream_of(team), side, head_size, piece, y, ldy);
}

void copy_row(Side side, DType type, int head_size, const uint8_t* from, int from_row, uint8_t* to, int to_row,
              Team& team) noexcept {
  LAUNCH(move_row, 1, kThreads, 0, stream_of(team), side, type, head_size, from, from_row, to, to_row);
}

}  // namespace tokensieve::kernels::cuda
