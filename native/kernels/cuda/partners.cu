// Partners: unit rows first, then products in tiles of 64 x 64 with f32 multiply-adds (a likeness is held to 1e-6, which
// no tensor core type gives); a block takes 64 rows of A and kChunk rows of B and keeps the best of each row as it goes;
// chunks are compared in ascending order. No atomics: of equals the lowest wins whatever the timing.
//
// Limit: f32 multiply-adds: 16 for 8 numbers read from shared memory, about half of the card's f32 rate.
#include "kernels/partners.h"

#include "device.h"

namespace tokensieve::kernels::cuda {

// A and B as unit rows: side s of row i at units + (s * (rows + columns) + i) * d, rows of B after those of A.
struct PartnersCall {
  const float* x[2];
  const int32_t *a, *b;  // [rows], [columns]
  float* units;
  float* best;  // [chunks][rows]
  int32_t* place;
  size_t ldx;
  int sides, d, rows, columns, chunks;
};

namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64, kDepth = 16, kPad = 4;
constexpr int kChunk = 1024;  // rows of B a block

int chunks_of(const PartnersJob& job) { return (job.columns + kChunk - 1) / kChunk; }

size_t units_of(const PartnersJob& job) {
  return static_cast<size_t>(job.sides) * static_cast<size_t>(job.rows + job.columns) * static_cast<size_t>(job.d);
}

// tile [kDepth][kTile + kPad] of channels from c on of rows from `first` on, of those before `end`.
__device__ __forceinline__ void load_tile(const float* units, int d, int first, int end, int c, float* tile) {
  for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
    const int row = first + i / kDepth, channel = c + i % kDepth;
    tile[i % kDepth * (kTile + kPad) + i / kDepth] =
        row < end && channel < d ? units[static_cast<size_t>(row) * d + channel] : 0.0f;
  }
}

// sum[4][4]: the products of rows row + 4 ty .. of A and column + 4 tx .. of B, of one side.
__device__ __forceinline__ void multiply(const PartnersCall& call, int side, int row, int column, float* a, float* b,
                                         float sum[4][4]) {
  const int all = call.rows + call.columns, ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  const float* units = call.units + static_cast<size_t>(side) * all * call.d;
  for (int c = 0; c < call.d; c += kDepth) {
    __syncthreads();
    load_tile(units, call.d, row, call.rows, c, a);
    load_tile(units, call.d, call.rows + column, all, c, b);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; k++) {
      const float* x = a + k * (kTile + kPad) + 4 * ty;
      const float* y = b + k * (kTile + kPad) + 4 * tx;
#pragma unroll
      for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
      }
    }
  }
}

// The best of the 16 threads of a row; equals: the lower place.
__device__ __forceinline__ void best_of_row(float* value, int32_t* place) {
  for (int step = 1; step < 16; step *= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, *value, step);
    const int32_t its = __shfl_xor_sync(0xffffffffu, *place, step);
    if (other > *value || (other == *value && its < *place)) *value = other, *place = its;
  }
}

}  // namespace

// A warp a row of a side.
__global__ void make_units(PartnersCall call) {
  const int all = call.rows + call.columns, lane = threadIdx.x % 32;
  const int unit = blockIdx.x * (kThreads / 32) + threadIdx.x / 32, side = unit / all, i = unit % all;
  if (side >= call.sides) return;
  const size_t at = static_cast<size_t>(i < call.rows ? call.a[i] : call.b[i - call.rows]);
  const float* x = (side == 0 ? call.x[0] : call.x[1]) + at * call.ldx;
  float squares = 0;
  for (int c = lane; c < call.d; c += 32) squares = fmaf(x[c], x[c], squares);
  for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, step);
  const float scale = squares > 0 ? 1 / sqrtf(squares) : 0.0f;
  for (int c = lane; c < call.d; c += 32) call.units[static_cast<size_t>(unit) * call.d + c] = x[c] * scale;
}

__global__ void find_partners(PartnersCall call) {
  SHARED_MEMORY(float, a);  // [kDepth][kTile + kPad], then b
  float* b = a + kDepth * (kTile + kPad);
  const int row = blockIdx.x * kTile, chunk = blockIdx.y, ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  const int end = chunk * kChunk + kChunk < call.columns ? chunk * kChunk + kChunk : call.columns;
  float best[4];
  int32_t place[4];
#pragma unroll
  for (int i = 0; i < 4; i++) best[i] = -INFINITY, place[i] = 0x7fffffff;
  for (int column = chunk * kChunk; column < end; column += kTile) {
    float sum[4][4] = {}, other[4][4] = {};
    multiply(call, 0, row, column, a, b, sum);
    if (call.sides > 1) multiply(call, 1, row, column, a, b, other);
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const float value = call.sides > 1 ? fmaxf(sum[i][j], 0.0f) * fmaxf(other[i][j], 0.0f) : sum[i][j];
        const int32_t at = column + 4 * tx + j;
        if (at < end && value > best[i]) best[i] = value, place[i] = at;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    best_of_row(&best[i], &place[i]);
    const int at = row + 4 * ty + i;
    if (tx != 0 || at >= call.rows) continue;
    call.best[static_cast<size_t>(chunk) * call.rows + at] = best[i];
    call.place[static_cast<size_t>(chunk) * call.rows + at] = place[i];
  }
}

__global__ void best_of_chunks(PartnersCall call, int32_t* partner, float* similarity) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= call.rows) return;
  float best = -INFINITY;
  for (int chunk = 0; chunk < call.chunks; chunk++) {
    const size_t at = static_cast<size_t>(chunk) * call.rows + i;
    if (call.best[at] <= best) continue;
    best = call.best[at];
    partner[i] = call.place[at];
  }
  similarity[i] = best;
}

size_t partners_scratch(const PartnersJob& job, int) noexcept {
  return 4 * (units_of(job) + 2 * static_cast<size_t>(chunks_of(job)) * static_cast<size_t>(job.rows));
}

void partners(const PartnersJob& job, int32_t* partner, float* similarity, void* scratch, Team& team) noexcept {
  PartnersCall call = {};
  call.x[0] = job.x[0];
  call.x[1] = job.x[1];
  call.a = upload(team, job.a, static_cast<size_t>(job.rows));
  call.b = upload(team, job.b, static_cast<size_t>(job.columns));
  call.ldx = job.ldx;
  call.sides = job.sides;
  call.d = job.d;
  call.rows = job.rows;
  call.columns = job.columns;
  call.chunks = chunks_of(job);
  call.units = static_cast<float*>(scratch);
  call.best = call.units + units_of(job);
  call.place = reinterpret_cast<int32_t*>(call.best + static_cast<size_t>(call.chunks) * job.rows);
  const Stream stream = stream_of(team);
  const int a_block = kThreads / 32, units = job.sides * (job.rows + job.columns);
  LAUNCH(make_units, (units + a_block - 1) / a_block, kThreads, 0, stream, call);
  const dim3 grid((job.rows + kTile - 1) / kTile, call.chunks);
  LAUNCH(find_partners, grid, kThreads, 2 * sizeof(float) * kDepth * (kTile + kPad), stream, call);
  LAUNCH(best_of_chunks, (job.rows + kThreads - 1) / kThreads, kThreads, 0, stream, call, partner, similarity);
}

}  // namespace tokensieve::kernels::cuda
