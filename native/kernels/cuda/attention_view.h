// What the kernels of attention and its probe are told: the views of all heads of a call, flattened into one table that
// goes to the device in one copy; and the way from a cache row to its page.
#pragma once

#include <cstring>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cuda/page.h"

namespace tokensieve::kernels::cuda {

constexpr int kBlockRows = 64;  // pieces are looked up by blocks of so many cache rows

struct RowPiece {
  const uint8_t* page;
  int32_t start;  // cache row of its first row
  uint8_t first, count;
  DType type;
};

// One side of a head.
struct Pieces {
  const RowPiece* items;
  const int32_t* blocks;  // the piece that holds row kBlockRows * i, i from 0 to rows / kBlockRows rounded up
};

// One KV head of one job.
struct HeadView {
  const float* q;  // of its first query head
  float* out;
  float* lse;  // [n][heads], of its first query head, or null
  const float* bias;
  float* mass;
  float* scratch;
  const int32_t *first, *end;  // [n]
  Pieces keys, values;
  size_t ldq, ldo;
  int n, rows;
  int from, to;  // the rows that any query row sees lie in [from, to)
};

// Shape and late rotation.
struct HeadShape {
  const float *cos, *sin;
  int heads, group, head_size, half, table_rows;
  float scale;
};

// The table on the host. Sections are found again by where they began.
class Table {
 public:
  template <class T>
  size_t add(const T* items, size_t n) {
    const size_t at = chunks_.size();
    chunks_.resize(at + (n * sizeof(T) + sizeof(Chunk) - 1) / sizeof(Chunk));
    if (n > 0) std::memcpy(chunks_.data() + at, items, n * sizeof(T));
    return at;
  }
  void clear() { chunks_.clear(); }
  // Where a section will be on the device.
  template <class T>
  static const T* there(const void* device, size_t at) {
    return reinterpret_cast<const T*>(static_cast<const Chunk*>(device) + at);
  }
  const void* send(Team& team) const { return upload(team, chunks_.data(), chunks_.size()); }

 private:
  struct alignas(16) Chunk {
    uint8_t bytes[16];
  };
  std::vector<Chunk> chunks_;
};

// Where a cache row lies. Rows of one piece follow each other in one page.
struct RowAt {
  const uint8_t* page;
  int32_t piece;
  uint8_t row;
  DType type;
};

// at[i] of row `from` + i, i < rows, for those there are. A warp a piece.
__device__ __forceinline__ void find_rows(const Pieces& pieces, int from, int rows, int all, RowAt* at) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int end = from + rows < all ? from + rows : all;
  const int last = pieces.blocks[(end + kBlockRows - 1) / kBlockRows];
  for (int p = pieces.blocks[from / kBlockRows] + warp; p <= last; p += warps) {
    const RowPiece piece = pieces.items[p];
    const int row = piece.start + lane;
    if (lane < piece.count && row >= from && row < end) {
      at[row - from] = {piece.page, p, static_cast<uint8_t>(piece.first + lane), piece.type};
    }
  }
}

__device__ __forceinline__ float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}
__device__ __forceinline__ float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

}  // namespace tokensieve::kernels::cuda
