// Rows: gather and merge. Limit: memory; a block a row (gather to another place), a block a group (merge).
//
// Gather in place: row i may be the source of an earlier row, so a thread takes one channel and goes down all rows, kAhead
// sources read before their places are written. What is before the first row that moves is not touched.
#include "kernels/rows.h"

#include <new>
#include <vector>

#include "device.h"

namespace tokensieve::kernels::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kThin = 64;  // threads of a block where only channels are parallel
constexpr int kAhead = 16;

}  // namespace

__global__ void gather_rows(const float* x, size_t ldx, int d, const int32_t* index, float* out, size_t ldo) {
  const float* from = x + static_cast<size_t>(index[blockIdx.x]) * ldx;
  for (int c = threadIdx.x; c < d; c += kThreads) out[blockIdx.x * ldo + c] = from[c];
}

// Rows [first, n).
__global__ void gather_in_place(float* x, size_t ldx, int d, const int32_t* index, int first, int n) {
  const int c = blockIdx.x * kThin + threadIdx.x;
  if (c >= d) return;
  for (int i = first; i < n; i += kAhead) {
    float ahead[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; k++) {
      if (i + k < n) ahead[k] = x[static_cast<size_t>(index[i + k]) * ldx + c];
    }
#pragma unroll
    for (int k = 0; k < kAhead; k++) {
      if (i + k < n) x[static_cast<size_t>(i + k) * ldx + c] = ahead[k];
    }
  }
}

// members [start[g], start[g + 1]): the rows of group g, ascending.
__global__ void merge_rows(const float* x, size_t ldx, int d, const int32_t* start, const int32_t* members,
                           const float* size, float* out, size_t ldo, float* out_size) {
  const int g = blockIdx.x, from = start[g], to = start[g + 1];
  float weight = 0;
  for (int m = from; m < to; m++) weight += size[members[m]];
  for (int c = threadIdx.x; c < d; c += kThreads) {
    float sum = 0;
    for (int m = from; m < to; m++) sum = fmaf(size[members[m]], x[static_cast<size_t>(members[m]) * ldx + c], sum);
    out[g * ldo + c] = to - from == 1 ? x[static_cast<size_t>(members[from]) * ldx + c] : sum / weight;
  }
  if (threadIdx.x == 0) out_size[g] = weight;
}

void gather(const float* x, size_t ldx, int d, const int32_t* index, int n, float* out, size_t ldo,
            Team& team) noexcept {
  int first = 0;
  while (out == x && first < n && index[first] == first) first++;
  if (first == n) return;
  const int32_t* there = upload(team, index, static_cast<size_t>(n));
  if (out == x) {
    LAUNCH(gather_in_place, (d + kThin - 1) / kThin, kThin, 0, stream_of(team), out, ldo, d, there, first, n);
  } else {
    LAUNCH(gather_rows, n, kThreads, 0, stream_of(team), x, ldx, d, there, out, ldo);
  }
}

void merge(const float* x, size_t ldx, int d, const int32_t* into, const float* size, int n, int groups, float* out,
           size_t ldo, float* out_size, Team& team) noexcept {
  if (groups == 0) return;
  try {
    std::vector<int32_t> lists(static_cast<size_t>(groups) + 1 + static_cast<size_t>(n));
    int32_t* const start = lists.data();
    int32_t* const members = start + groups + 1;
    for (int i = 0; i < n; i++) {
      if (into[i] >= 0) start[into[i] + 1]++;
    }
    for (int g = 0; g < groups; g++) start[g + 1] += start[g];
    for (int i = 0; i < n; i++) {
      if (into[i] >= 0) members[start[into[i]]++] = i;
    }
    for (int g = groups; g > 0; g--) start[g] = start[g - 1];  // each had moved to the next one's start
    start[0] = 0;
    const int32_t* there = upload(team, lists.data(), lists.size());
    LAUNCH(merge_rows, groups, kThreads, 0, stream_of(team), x, ldx, d, there, there + groups + 1, size, out, ldo,
           out_size);
  } catch (const std::bad_alloc&) {
    out_of_memory(stream_of(team));
  }
}

}  // namespace tokensieve::kernels::cuda
