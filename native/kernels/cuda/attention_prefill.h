// The prefill path of attention: what its kernel and that of the mass share.
#pragma once

#include "kernels/cuda/attention_view.h"

namespace tokensieve::kernels::cuda {

constexpr int kTileThreads = 128;
constexpr int kTileRows = 64;  // 16 a warp

// The softmax's state is folded into the result at multiples of so many cache rows, by the block that walks over all of
// them or, where there are few tiles, by another kernel once each segment's block is done: the same bits.
constexpr int kSegment = 1024;
constexpr int kFewTiles = 256;

// Rows [row, row + kTileRows) of the queries of a head: row = query row * group + query head of the group. They see
// cache rows in [from, to) only. part: which of the parts this segment's state goes to; -1: the tile is a whole.
struct PrefillTile {
  int32_t head, row, from, to, part;
};
// The parts of a tile, in order of their cache rows.
struct PartsTile {
  int32_t head, row, first, count;
};
// Cache rows [from, from + 64) and the tiles that may see them.
struct MassTile {
  int32_t head, from, first_tile, tiles;
};

struct PrefillCall {
  HeadShape shape;
  const HeadView* heads;
  const PrefillTile* tiles;  // longest first
  const PrefillTile* by_head;  // ascending
  const MassTile* masses;
  const PartsTile* merges;
  float* parts;  // each max [kTileRows], sum [kTileRows], O [kTileRows][head_size]
  int tile_count, mass_count, merge_count;
};

void attend_prefill(const PrefillCall& call, Stream stream);
void add_prefill_mass(const PrefillCall& call, Stream stream);

// Rows in shared memory begin 16 bytes further in the banks than the rows before: ldmatrix without conflicts.
constexpr int kPadding = 8;

__host__ __device__ constexpr size_t part_floats(int head_size) {
  return static_cast<size_t>(kTileRows) * (static_cast<size_t>(head_size) + 2);
}

// Bytes of a tile's shared memory.
inline size_t tile_bytes(int head_size, int keys, bool values) {
  const size_t d = static_cast<size_t>(head_size), k = static_cast<size_t>(keys);
  const size_t numbers = kTileRows * (d + kPadding) + d * (k + kPadding) + (values ? k * (d + kPadding) : 0);
  return 2 * numbers + 4 * k + sizeof(RowAt) * k * (values ? 2 : 1);
}

// q bf16 [kTileRows][head_size + kPadding]; rows beyond the job's are zeros.
__device__ __forceinline__ void load_tile_queries(const HeadShape& shape, const HeadView& head, int row, uint16_t* q) {
  const int d = shape.head_size, pairs = d / 2;
  for (int at = threadIdx.x; at < kTileRows * pairs; at += kTileThreads) {
    const int r = at / pairs, c = at % pairs * 2, i = (row + r) / shape.group, g = (row + r) % shape.group;
    const float* x = head.q + static_cast<size_t>(i) * head.ldq + g * d + c;
    *reinterpret_cast<uint32_t*>(q + r * (d + kPadding) + c) = i < head.n ? pack_bf16(x[0], x[1]) : 0;
  }
}

// Eight numbers of 16 bits as bf16.
__device__ __forceinline__ uint4 eight_bf16(uint4 x, DType type) {
  if (type == DType::bf16) return x;
  return make_uint4(pack_bf16(first_half(x.x), second_half(x.x)), pack_bf16(first_half(x.y), second_half(x.y)),
                    pack_bf16(first_half(x.z), second_half(x.z)), pack_bf16(first_half(x.w), second_half(x.w)));
}

// One channel of a key after its late rotation; j: its slot.
template <DType T>
__device__ __forceinline__ float rotated_key_at(const HeadShape& shape, const RowAt& key, int j, int c) {
  const int half = shape.half, d = shape.head_size;
  const float x = key_at<T>(key.page, d, key.row, c);
  if (c >= 2 * half) return x;
  const size_t at = static_cast<size_t>(c % half) * shape.table_rows + j;
  const float y = key_at<T>(key.page, d, key.row, c < half ? c + half : c - half);
  return c < half ? x * shape.cos[at] - y * shape.sin[at] : x * shape.cos[at] + y * shape.sin[at];
}

// Channels c .. c + 7 of key `lane` of 32 into columns of k; a key that does not exist (page null) becomes zeros.
template <DType T>
__device__ __forceinline__ void expand_octet(const HeadShape& shape, const RowAt& key, int j, int c, uint16_t* k,
                                             int stride) {
  float x[8];
  if (shape.half == 0) {
    key_channels<T>(key.page, shape.head_size, key.row, c, x);
  } else {
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = rotated_key_at<T>(shape, key, j, c + i);
  }
#pragma unroll
  for (int i = 0; i < 8; i++) k[i * stride] = float_to_bf16(x[i]);
}

// Whether 16 neighbouring rows are a block of a page of 16-bit numbers.
__device__ __forceinline__ bool is_block(const RowAt* rows, int exist) {
  const DType type = rows[0].type;
  return exist >= 16 && rows[0].row % 16 == 0 && rows[0].piece == rows[15].piece &&
         (type == DType::f16 || type == DType::bf16);
}

// Keys `from` + [0, kKeys) as bf16 [head_size][kKeys + kPadding], channels one after the other as they lie in pages.
template <int kKeys>
__device__ __forceinline__ void expand_keys(const HeadShape& shape, const RowAt* rows, int from, int exist,
                                            uint16_t* k) {
  const int d = shape.head_size, warp = threadIdx.x / 32, lane = threadIdx.x % 32, stride = kKeys + kPadding;
  for (int block = 0; block < kKeys; block += 32) {
    const bool copies =
        shape.half == 0 && is_block(rows + block, exist - block) && is_block(rows + block + 16, exist - block - 16);
    if (copies) {  // lanes: 8 keys, the next 8, then the next channel; two blocks one after the other
      for (int at = threadIdx.x; at < 4 * d; at += kTileThreads) {
        const int key = block + at / (2 * d) * 16, c = at / 2 % d, eight = at % 2 * 8;
        const uint16_t* page = reinterpret_cast<const uint16_t*>(rows[key].page) + (rows[key].row * d + c * 16 + eight);
        const uint4 x = eight_bf16(*reinterpret_cast<const uint4*>(page), rows[key].type);
        *reinterpret_cast<uint4*>(k + c * stride + key + eight) = x;
      }
      continue;
    }
    const int key = block + lane;
    for (int c = 8 * warp; c < d; c += kTileThreads / 4) {
      uint16_t* to = k + c * stride + key;
      if (key >= exist) {
        for (int i = 0; i < 8; i++) to[i * stride] = 0;
        continue;
      }
      with_page_type(rows[key].type, [&](auto typed) {
        expand_octet<decltype(typed)::type>(shape, rows[key], from + key, c, to, stride);
      });
    }
  }
}

// Channels c .. c + 7 of a value.
__device__ __forceinline__ uint4 eight_values(const RowAt& at, int head_size, int c) {
  if (at.type == DType::f16 || at.type == DType::bf16) {
    const uint16_t* page = reinterpret_cast<const uint16_t*>(at.page) + (at.row * head_size + c);
    return eight_bf16(*reinterpret_cast<const uint4*>(page), at.type);
  }
  uint32_t two[4];
  with_page_type(at.type, [&](auto typed) {
    constexpr DType type = decltype(typed)::type;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      two[i] = pack_bf16(value_at<type>(at.page, head_size, at.row, c + 2 * i),
                         value_at<type>(at.page, head_size, at.row, c + 2 * i + 1));
    }
  });
  return make_uint4(two[0], two[1], two[2], two[3]);
}

// Values as bf16 [kKeys][head_size + kPadding]. A warp takes four rows: a lane a channel where four rows share words,
// else a lane eight channels of a row.
template <int kKeys>
__device__ __forceinline__ void expand_values(const HeadShape& shape, const RowAt* rows, int exist, uint16_t* v) {
  const int d = shape.head_size, lane = threadIdx.x % 32, stride = d + kPadding;
  for (int key = threadIdx.x / 32 * 4; key < kKeys; key += kTileThreads / 8) {
    const RowAt at = rows[key < exist ? key : 0];
    uint16_t* to = v + key * stride;
    if (key + 3 < exist && rows[key + 3].piece == at.piece && at.row % 4 == 0 && !is_plain(at.type)) {
      with_page_type(at.type, [&](auto typed) {
        for (int c = lane; c < d; c += 32) {
          float x[4];
          value_quad<decltype(typed)::type>(at.page, d, c, at.row / 4, x);
#pragma unroll
          for (int i = 0; i < 4; i++) to[i * stride + c] = float_to_bf16(x[i]);
        }
      });
      continue;
    }
    for (int eight = lane; eight < d / 2; eight += 32) {
      const int i = eight / (d / 8), c = eight % (d / 8) * 8;
      const uint4 x = key + i < exist ? eight_values(rows[key + i], d, c) : make_uint4(0, 0, 0, 0);
      *reinterpret_cast<uint4*>(to + i * stride + c) = x;
    }
  }
}

// x and y: 8 columns each.
__device__ __forceinline__ void multiply_two(float (&x)[4], float (&y)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[4]) {
  const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
  mma_bf16(x, a, left);
  mma_bf16(y, a, right);
}

// s = q k^T of a warp's 16 rows and kKeys keys, as mma leaves it.
template <int kKeys>
__device__ __forceinline__ void score_tile(const uint16_t* q, const uint16_t* k, int head_size, float s[][4]) {
  const int lane = threadIdx.x % 32;
  const uint16_t* a_row = q + (threadIdx.x / 32 * 16 + lane % 16) * (head_size + kPadding) + lane / 16 * 8;
  const uint16_t* b_row = k + lane % 16 * (kKeys + kPadding) + lane / 16 * 8;
#pragma unroll
  for (int n = 0; n < kKeys / 8; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) s[n][e] = 0;
  }
  for (int c = 0; c < head_size; c += 16) {
    uint32_t a[4], b[4];
    ldmatrix_x4(a, a_row + c);
#pragma unroll
    for (int n = 0; n < kKeys / 8; n += 2) {
      ldmatrix_x4_trans(b, b_row + c * (kKeys + kPadding) + 8 * n);
      multiply_two(s[n], s[n + 1], a, b);
    }
  }
}

// The range of a row of a tile; nothing for one that does not exist.
struct Range {
  int first, end;
};
__device__ __forceinline__ Range row_range(const HeadShape& shape, const HeadView& head, int row) {
  const int i = row / shape.group;
  if (i >= head.n) return {0, 0};
  return {head.first[i], head.end[i]};
}

}  // namespace tokensieve::kernels::cuda
