// Pages of the KV cache: the same bytes as the CPU's. A block a job (rows of one page). Rows that share bytes are 4 or 16
// apart, so a warp takes every fourth row and a lane the same channels of each: no two threads write one byte.
//
// Limit: the launch. A decode step stores one row of each head and side, 2 KB at most; a prompt's rows are read once
// (coalesced) and written once, by bytes in the second-level cache.
#include "kernels/kv_page.h"

#include "kernels/cuda/page_store.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

}  // namespace

__global__ void store_pages(int head_size, const StoreJob* jobs) {
  const StoreJob job = jobs[blockIdx.x];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int skip = (warp + kWarps - job.first % kWarps) % kWarps;  // the warp's first row: row % kWarps == warp
  for (int i = skip; i < job.n; i += kWarps) {
    const float* x = job.x + static_cast<size_t>(i) * job.ldx;
    store_row(job.side, job.type, job.page, head_size, x, job.first + i, lane);
  }
}

// A thread a channel of all 32 rows.
__global__ void store_kivi_page(DType type, int head_size, const float* x, size_t ldx, uint8_t* page) {
  const int c = blockIdx.x * 32 + threadIdx.x;
  store_kivi_channel(type, head_size, page, c, [&](int row) { return x[row * ldx + c]; });
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
