// Rows that move, are packed or fold within pages: a block a program, a barrier before each operation. Rows go through
// shared memory, so that pages are read and written by whole rows of it whatever lies beside what, and a row that slides
// within its page is read before it is written.
//
// Limit: after a prompt the memory of the card (each row that stays is read and written once, in runs of rows that lay
// together); at a decode step the launch and the latency of two or three operations: some 10 us for all layers.
#include "kernels/kv_change.h"

#include "kernels/cuda/page_store.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32, kSums = kMaxHeadSize / kThreads;

// Rows of the scratch lie one word further apart than they are wide: columns of it are read without conflicts.
struct Scratch {
  float* rows;
  int head_size;

  __device__ __forceinline__ float& at(int row, int c) const { return rows[row * (head_size + 1) + c]; }
  __device__ __forceinline__ uint32_t& code(int row, int c) const {
    return reinterpret_cast<uint32_t*>(rows)[row * (head_size + 1) + c];
  }
  // Scales (table 0) and minima of rows that move.
  __device__ __forceinline__ uint16_t& scale(int row, int group, int table) const {
    uint16_t* const behind = reinterpret_cast<uint16_t*>(rows + kPageRows * (head_size + 1));
    return behind[(row * (head_size / 32) + group) * 2 + table];
  }
  static size_t bytes(int head_size) {
    return kPageRows * (static_cast<size_t>(head_size + 1) * 4 + static_cast<size_t>(head_size) / 32 * 4);
  }
};

// f(row, channel) for `count` rows by all threads, in the order in which they lie in a page: of keys 16 side by side.
template <class F>
__device__ __forceinline__ void each_number(Side side, int count, int head_size, F&& f) {
  for (int i = threadIdx.x; i < count * head_size; i += kThreads) {
    if (side == Side::keys) {
      f(i % count, i / count);
    } else {
      f(i / head_size, i % head_size);
    }
  }
}

__device__ __forceinline__ uint32_t code_of_row(const PageOp& op, int head_size, int row, int c) {
  const int bits = code_bits(op.type);
  if (is_plain(op.type)) {
    const int at = plain_place(op.side, head_size, row, c);
    return bits == 32 ? reinterpret_cast<const uint32_t*>(op.from)[at] : reinterpret_cast<const uint16_t*>(op.from)[at];
  }
  const CodeAt at = code_at(op.side, op.type, head_size, row, c);
  return op.from[at.byte] >> at.shift & ((1u << bits) - 1);
}

__device__ __forceinline__ void put_plain(const PageOp& op, int head_size, int row, int c, uint32_t code) {
  const int at = plain_place(op.side, head_size, row, c);
  if (code_bits(op.type) == 32) {
    reinterpret_cast<uint32_t*>(op.to)[at] = code;
  } else {
    reinterpret_cast<uint16_t*>(op.to)[at] = static_cast<uint16_t>(code);
  }
}

// One row by one warp, as store_row.
__device__ __forceinline__ void put_codes(const PageOp& op, const Scratch& scratch, int i, int lane) {
  const int bits = code_bits(op.type), row = op.to_row + i;
  const bool pairs = op.side == Side::values && bits < 8;  // channels c and c + 16 share a byte
  for (int c = lane; c < scratch.head_size; c += 32) {
    if (pairs && lane >= 16) continue;
    const CodeAt at = code_at(op.side, op.type, scratch.head_size, row, c);
    const int code = static_cast<int>(scratch.code(i, c)),
              other = pairs ? static_cast<int>(scratch.code(i, c + 16)) : 0;
    put_bits(op.to + at.byte, at.shift, pairs ? 2 * bits : bits, code | other << bits);
  }
}

// f(row, group, table, index): of the scales and minima of `count` rows from `first` on, where each lies.
template <class F>
__device__ __forceinline__ void each_scale(const PageOp& op, int first, int head_size, F&& f) {
  const int groups = head_size / 32, tables = is_kivi(op.type) ? 2 : 1;
  for (int i = threadIdx.x; i < op.count * groups * tables; i += kThreads) {
    const int row = i / (groups * tables), group = i / tables % groups, table = i % tables;
    f(row, group, table, table * head_size + scale_at(op.side, head_size, first + row, 32 * group));
  }
}

__device__ __forceinline__ void move(const PageOp& op, const Scratch& scratch) {
  const int head_size = scratch.head_size, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const bool plain = is_plain(op.type);
  each_number(op.side, op.count, head_size,
              [&](int i, int c) { scratch.code(i, c) = code_of_row(op, head_size, op.from_row + i, c); });
  const uint16_t* const before = page_scales(op.from, op.type, head_size);
  if (!plain) {
    each_scale(op, op.from_row, head_size,
               [&](int row, int group, int table, int at) { scratch.scale(row, group, table) = before[at]; });
  }
  __syncthreads();
  if (plain) {
    each_number(op.side, op.count, head_size,
                [&](int i, int c) { put_plain(op, head_size, op.to_row + i, c, scratch.code(i, c)); });
    return;
  }
  for (int i = (warp + kWarps - op.to_row % kWarps) % kWarps; i < op.count; i += kWarps)
    put_codes(op, scratch, i, lane);
  uint16_t* const after = reinterpret_cast<uint16_t*>(op.to + code_bytes(op.type, head_size));
  each_scale(op, op.to_row, head_size,
             [&](int row, int group, int table, int at) { after[at] = scratch.scale(row, group, table); });
}

__device__ __forceinline__ float number_at(const PageOp& op, int head_size, int row, int c) {
  float x = 0;
  with_page_type(op.type, [&](auto typed) {
    constexpr DType type = decltype(typed)::type;
    x = op.side == Side::keys ? key_at<type>(op.from, head_size, row, c) : value_at<type>(op.from, head_size, row, c);
  });
  return x;
}

__device__ __forceinline__ void store(const PageOp& op, const Scratch& scratch) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int i = (warp + kWarps - op.to_row % kWarps) % kWarps; i < op.count; i += kWarps)
    store_row(op.side, op.type, op.to, scratch.head_size, &scratch.at(op.from_row + i, 0), op.to_row + i, lane);
}

__device__ __forceinline__ void group(const PageOp& op, const Scratch& scratch) {
  const int first = op.from_row, last = first + op.count - 1;
  for (int c = threadIdx.x; c < scratch.head_size; c += kThreads) {
    store_kivi_channel(op.type, scratch.head_size, op.to, c, [&](int row) {
      return scratch.at(row < first ? first : row > last ? last : row, c);
    });
  }
}

__device__ __forceinline__ void mix(const PageOp& op, const Scratch& scratch, double (&sums)[kSums]) {
#pragma unroll
  for (int k = 0; k < kSums; k++) {
    const int c = static_cast<int>(threadIdx.x) + k * kThreads;
    if (c >= scratch.head_size) continue;
    const double x = __dmul_rn(op.weight, number_at(op, scratch.head_size, op.from_row, c));
    const double sum = op.kind == PageOp::Kind::add ? __dadd_rn(sums[k], x) : __dadd_rn(x, sums[k]);
    if (op.kind == PageOp::Kind::add) {
      sums[k] = sum;
    } else {
      scratch.at(op.to_row, c) = static_cast<float>(sum);
      sums[k] = 0;
    }
  }
}

__device__ __forceinline__ void copy(const PageOp& op) {
  const uint4* const from = reinterpret_cast<const uint4*>(op.from);
  uint4* const to = reinterpret_cast<uint4*>(op.to);
  for (int i = threadIdx.x; i < op.lines * 4; i += kThreads) to[i] = from[i];
}

// Rows of numbers in memory, to or from the scratch.
__device__ __forceinline__ void take_or_give(const PageOp& op, const Scratch& scratch) {
  const int head_size = scratch.head_size;
  for (int i = threadIdx.x; i < op.count * head_size; i += kThreads) {
    const int row = i / head_size, c = i % head_size;
    if (op.kind == PageOp::Kind::take) {
      scratch.at(op.to_row + row, c) = reinterpret_cast<const float*>(op.from)[i];
    } else {
      reinterpret_cast<float*>(op.to)[i] = scratch.at(op.from_row + row, c);
    }
  }
}

}  // namespace

__global__ void __launch_bounds__(kThreads, 5) run_programs(int head_size, const PageOp* ops, const int32_t* ends) {
  SHARED_MEMORY(float, rows);
  const Scratch scratch{rows, head_size};
  double sums[kSums] = {};
  for (int i = blockIdx.x > 0 ? ends[blockIdx.x - 1] : 0; i < ends[blockIdx.x]; i++) {
    __syncthreads();
    const PageOp op = ops[i];
    switch (op.kind) {
      case PageOp::Kind::copy: copy(op); break;
      case PageOp::Kind::move: move(op, scratch); break;
      case PageOp::Kind::load:
        each_number(op.side, op.count, head_size, [&](int row, int c) {
          scratch.at(op.to_row + row, c) = number_at(op, head_size, op.from_row + row, c);
        });
        break;
      case PageOp::Kind::take:
      case PageOp::Kind::give: take_or_give(op, scratch); break;
      case PageOp::Kind::store: store(op, scratch); break;
      case PageOp::Kind::group: group(op, scratch); break;
      default: mix(op, scratch, sums);
    }
  }
}

void change_pages(int head_size, const PageOp* ops, const int32_t* ends, int programs, Team& team) noexcept {
  if (programs == 0) return;
  const PageOp* const there = upload(team, ops, static_cast<size_t>(ends[programs - 1]));
  const int32_t* const bounds = upload(team, ends, static_cast<size_t>(programs));
  LAUNCH(run_programs, programs, kThreads, Scratch::bytes(head_size), stream_of(team), head_size, there, bounds);
}

}  // namespace tokensieve::kernels::cuda
