// Weights times many tokens, on tensor cores: the prompt.
//
// Weights are made bf16 (from f32 code * scale + minimum, rounded once) in the registers of the warp that owns their
// rows, straight from global memory: what the packed form is for (weights.h). Activations go through shared memory: 3
// stages of 64 columns, filled by cp.async two stages ahead, 16-byte chunks moved within a row so that neither the
// copies nor the loads of 8 bytes a lane meet in a bank. A warp has 32 rows and all tokens of its block: every fragment
// of activations that it loads is used twice, every fragment of weights 16 times.
//
// The limit is the rate of mma. Of a group of 64 columns in a large tile (256 rows x 128 tokens, 8 warps, one block a
// multiprocessor, 2048 cycles of an A100's tensor cores, 1024 of an H100's of which mma.sync reaches some 62 %) a
// scheduler issues 256 mma, 128 loads and 450 to 600 instructions that unpack; shared memory is read for 1024 cycles,
// L2 25 KB (4 bits) to 48 KB (16 bits). So 70 % of an A100's and 50 to 60 % of an H100's dense peak are within reach.
// Sums run over the columns in ascending order in f32: both tile sizes, and every place in a tile, give the same bits.
#include "kernels/cuda/matmul_parts.h"

namespace tokensieve::kernels::cuda {

constexpr int kStages = 3, kRowBytes = kGroup * 2;  // of a token in a stage
constexpr int kPutTokens = 32, kPitch = 36;  // the pitch spreads what a warp writes at once over all banks

template <int kTiles>
struct Stage {
  static constexpr int kBytes = kTiles * 8 * kRowBytes;
};

// Where a chunk of 16 bytes of a token lies: tokens 0 to 3 of a tile fill all banks with any two chunks next to each
// other.
__device__ __forceinline__ int chunk_place(int token, int chunk) {
  return token * kRowBytes + ((chunk ^ ((token & 1) << 2 | (token & 2))) * 16);
}

// Columns and tokens that are not there: zeros.
template <DType type, int kWarps, int kTiles>
__device__ __forceinline__ void fill_stage(const Tokens& x, int token0, int group, uint8_t* stage) {
  for (int i = threadIdx.x; i < kTiles * 64; i += kWarps * 32) {
    const int row = i / 8, k = group * kGroup + i % 8 * 8;
    const bool there = token0 + row < x.n && k < x.cols;
    uint8_t* const to = stage + chunk_place(row, i % 8);
    const uint16_t* from = x.x + (there ? static_cast<size_t>(x.even) * static_cast<size_t>(token0 + row) + k : 0);
    if (layout_of(type).codes != 64 || x.wide) {
      copy_async_16(to, from, there);
    } else {  // rows whose length is no multiple of 8
      for (int j = 0; j < 4; j++) {
        const bool pair = there && k + 2 * j < x.cols;
        reinterpret_cast<uint32_t*>(to)[j] = pair ? reinterpret_cast<const uint32_t*>(from)[j] : 0;
      }
    }
  }
}

// The weights of step s in bf16.
template <DType type>
__device__ __forceinline__ void weight_fragment(const Raw<type>& raw, int s, const Scales& scales, uint32_t (&a)[4]) {
#pragma unroll
  for (int p = 0; p < 4; p++) {
    if constexpr (type == DType::bf16) {
      a[p] = word_of(raw.codes[s], p);
    } else if constexpr (type == DType::f16) {
      const uint32_t pair = word_of(raw.codes[s], p);
      a[p] = pack_bf16(low_half(pair), high_half(pair));
    } else {
      const uint32_t pair = code_pair<type>(raw, s, p);
      const float d = scales.d[p % 2], m = scales.m[p % 2];
      a[p] = pack_bf16(fmaf(low_bf16(pair), d, m), fmaf(high_bf16(pair), d, m));
    }
  }
}

// With what code_pair adds to the codes taken off: exact for f16 scales, as 128 is a power of 2.
template <DType type>
__device__ __forceinline__ Scales tile_scales(const Raw<type>& raw, int s) {
  Scales of{};
  if constexpr (layout_of(type).codes != 64) {
    of = scales_of<type>(raw, s);
    constexpr float kBias = static_cast<float>(code_bias(type));
    of.m[0] = fmaf(-kBias, of.d[0], of.m[0]), of.m[1] = fmaf(-kBias, of.d[1], of.m[1]);
  }
  return of;
}

template <DType type, int kTiles>
__device__ __forceinline__ void multiply_group(const Raw<type> (&raw)[2], const uint8_t* stage, int lane,
                                               float (&sums)[2][kTiles][4]) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int s = 0; s < 4; s++) {
    uint32_t a[2][4];
#pragma unroll
    for (int i = 0; i < 2; i++) weight_fragment<type>(raw[i], s, tile_scales<type>(raw[i], s), a[i]);
    const uint8_t* from = stage + chunk_place(g, 2 * s + t / 2) + t % 2 * 8;
#pragma unroll
    for (int j = 0; j < kTiles; j++) {
      const uint2 four = *reinterpret_cast<const uint2*>(from + j * 8 * kRowBytes);
      const uint32_t b[2] = {four.x, four.y};
      mma_bf16(sums[0][j], a[0], b);
      mma_bf16(sums[1][j], a[1], b);
    }
  }
}

// Of a gate: the warp's rows are a panel of gate rows and one of up rows. Half of the lanes take every other token.
__device__ __forceinline__ void put_gated(const Output& out, int row, int token, int count, const float* sums) {
  const int half = row / kPanel % 2, gate = row - half * kPanel;
  const float gate_bias = out.bias ? out.bias[gate] : 0, up_bias = out.bias ? out.bias[gate + kPanel] : 0;
  sums -= half * kPanel;
  float* const to = out.out + out.ldo * static_cast<size_t>(token) + gated_column(gate);
#pragma unroll 1
  for (int t = half; t < count; t += 2) {
    const float* pair = sums + t * kPitch;
    to[out.ldo * static_cast<size_t>(t)] = activated(out.act, pair[0] + gate_bias) * (pair[kPanel] + up_bias);
  }
}

// 32 tokens of a row, [token][kPitch] from `sums` on; the lanes' rows lie side by side.
__device__ __forceinline__ void put_tokens(const Output& out, int row, int token, const float* sums) {
  if (row >= out.rows) return;
  const int count = min(kPutTokens, out.n - token);
  if (out.gated) return put_gated(out, row, token, count, sums);
  const float bias = out.bias ? out.bias[row] : 0;
  float* to = out.out + out.ldo * static_cast<size_t>(token) + row;
#pragma unroll 4
  for (int t = 0; t < count; t++, to += out.ldo) put(to, sums[t * kPitch] + bias, out.accumulate);
}

// Through shared memory, so that a warp writes 128 bytes next to each other, and a loop can do it.
template <int kTiles>
__device__ __forceinline__ void put_sums(const Output& out, int row, int token, const float (&sums)[2][kTiles][4],
                                         int lane, float* shared) {
  float* const to = shared + lane % 4 * 2 * kPitch + lane / 4;
#pragma unroll
  for (int first = 0; first < kTiles; first += kPutTokens / 8) {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPutTokens; i++) {  // of tile i / 8, panel i / 4 % 2, sum i % 4
      to[(i / 8 * 8 + i % 2) * kPitch + i / 4 % 2 * kPanel + i / 2 % 2 * 8] = sums[i / 4 % 2][first + i / 8][i % 4];
    }
    __syncwarp();
    put_tokens(out, row + lane, token + first * 8, shared + lane);
  }
}

template <DType type, int kWarps, int kTiles>
__global__ void __launch_bounds__(kWarps * 32, kWarps == 8 ? 1 : 3) matmul_tiles(Panels w, Tokens x, Output out) {
  SHARED_MEMORY(uint8_t, stages);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, token0 = static_cast<int>(blockIdx.x) * kTiles * 8,
            row0 = (static_cast<int>(blockIdx.y) * kWarps + warp) * 2 * kPanel, last = (w.rows - 1) / kPanel;
  const uint8_t* panel[2];
  for (int i = 0; i < 2; i++) panel[i] = w.data + w.bytes * static_cast<size_t>(min(row0 / kPanel + i, last));
  float sums[2][kTiles][4] = {};
  Raw<type> raw[2], next[2];
  for (int i = 0; i < kStages - 1; i++) {
    if (i < w.groups) fill_stage<type, kWarps, kTiles>(x, token0, i, stages + i * Stage<kTiles>::kBytes);
    commit_copies();
  }
  for (int i = 0; i < 2; i++) load_raw<type>(w, panel[i], 0, lane, next[i]);
  for (int group = 0, stage = 0, ahead = kStages - 1; group < w.groups; group++) {
    wait_copies<kStages - 2>();
    __syncthreads();  // this stage is there for all, and all have left the one before
    if (group + kStages - 1 < w.groups)
      fill_stage<type, kWarps, kTiles>(x, token0, group + kStages - 1, stages + ahead * Stage<kTiles>::kBytes);
    commit_copies();
    for (int i = 0; i < 2; i++) raw[i] = next[i];
    for (int i = 0; i < 2; i++) load_raw<type>(w, panel[i], min(group + 1, w.groups - 1), lane, next[i]);
    multiply_group<type, kTiles>(raw, stages + stage * Stage<kTiles>::kBytes, lane, sums);
    stage = stage + 1 == kStages ? 0 : stage + 1, ahead = ahead + 1 == kStages ? 0 : ahead + 1;
  }
  __syncthreads();  // the stages are free
  put_sums<kTiles>(out, row0, token0, sums, lane, reinterpret_cast<float*>(stages) + warp * kPutTokens * kPitch);
}

template <DType type, int kWarps, int kTiles>
void launch_tiles(const Panels& w, const Tokens& x, const Output& out, Stream stream) noexcept {
  const int rows = kWarps * 2 * kPanel, tokens = kTiles * 8;  // tokens first: blocks side by side share weights, in L2
  const dim3 grid(static_cast<unsigned>((x.n + tokens - 1) / tokens),
                  static_cast<unsigned>((w.rows + rows - 1) / rows));
  LAUNCH((matmul_tiles<type, kWarps, kTiles>), grid, kWarps * 32, kStages * Stage<kTiles>::kBytes, stream, w, x, out);
}

void multiply_tiles(DType type, Tile tile, const Panels& w, const Tokens& x, const Output& out,
                    Stream stream) noexcept {
  with_type(type, [&](auto t) {
    constexpr DType kType = decltype(t)::value;
    if (tile == Tile::large) return launch_tiles<kType, 8, 16>(w, x, out, stream);
    launch_tiles<kType, 4, 8>(w, x, out, stream);
  });
}

}  // namespace tokensieve::kernels::cuda
