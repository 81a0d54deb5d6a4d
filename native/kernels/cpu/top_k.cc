// The k-th largest value T is found by bisection over the ordered bit patterns of floats, counting what lies above:
// no sorting, no histogram, nothing that depends on how the numbers are spread. Then one pass takes what is above T
// and the first of those equal to it. For a small k of many numbers the search runs over the few blocks whose maxima
// are among the k largest maxima: everything that counts lies there.
#include "kernels/cpu/functions.h"
#include "kernels/cpu/simd.h"

namespace tokensieve::kernels::TS_ISA {

namespace {

constexpr int kBlock = 128;

TS_INLINE float none() { return -__builtin_inff(); }

// Unsigned patterns in the order of the values; -0 lies just below +0.
TS_INLINE uint32_t pattern(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}
TS_INLINE float value_of(uint32_t pattern) {
  const uint32_t bits = pattern ^ (pattern >> 31 ? 0x80000000u : 0xffffffffu);
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

// NaN is passed over; -infinity where there is nothing else.
TS_INLINE float largest(const float* x, int n) {
  F best[4] = {set1(none()), set1(none()), set1(none()), set1(none())};
  int i = 0;
  for (; i + 64 <= n; i += 64) {
    TS_UNROLL for (int part = 0; part < 4; ++part) {
      const F v = load(x + i + 16 * part);
      best[part] = select_less(best[part], v, v, best[part]);
    }
  }
  for (; i + 16 <= n; i += 16) {
    const F v = load(x + i);
    best[0] = select_less(best[0], v, v, best[0]);
  }
  float result = reduce_max(max(max(best[0], best[1]), max(best[2], best[3])));
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

int32_t largest_index(const float* x, int n) {
  constexpr int kStride = 2048;
  float best = none();
  int at = 0;
  for (int i = 0; i < n; i += kStride) {
    const float here = largest(x + i, n - i < kStride ? n - i : kStride);
    if (here > best) {
      best = here;
      at = i;
    }
  }
  for (int i = at; i < n && best > none(); ++i) {
    if (x[i] == best) return i;
  }
  return 0;
}

// How many are greater than t; NaN never is. Lanes count in f32, exact below 2^24 a lane.
int count_above(const float* x, int n, float t) {
  const F limit = set1(t), one = set1(1), nothing = zero();
  F a = zero(), b = zero();
  int i = 0;
  for (; i + 32 <= n; i += 32) {
    a = add(a, select_less(limit, load(x + i), one, nothing));
    b = add(b, select_less(limit, load(x + i + 16), one, nothing));
  }
  int count = reduce_addi(to_i32(add(a, b)));
  for (; i < n; ++i) count += x[i] > t;
  return count;
}

struct Cut {
  float value;
  int above, ties;  // take all `above` greater than value, and the first `ties` equal to it
};

// 1 <= k <= n. The k-th largest is known to be at least `least`.
Cut find_cut(const float* x, int n, int k, float least) {
  uint32_t low = pattern(least), high = pattern(largest(x, n));
  int above = 0;  // count above value_of(high), always < k
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const int count = count_above(x, n, value_of(middle));
    if (count == k) return {value_of(middle), k, 0};
    if (count < k) {
      high = middle;
      above = count;
    } else {
      low = middle + 1;
    }
  }
  return {value_of(high), above, k - above};
}

// Appends the indices of what a block (whose first index is `base`) holds of the cut.
TS_INLINE int take(const float* x, int n, int base, Cut& cut, int32_t* out, int taken) {
  for (int i = 0; i < n; ++i) {
    if (x[i] > cut.value) {
      out[taken++] = base + i;
    } else if (cut.ties > 0 && (x[i] == cut.value || (cut.value == none() && x[i] != x[i]))) {
      out[taken++] = base + i;
      --cut.ties;
    }
  }
  return taken;
}

void take_all(const float* x, int n, Cut cut, int k, int32_t* out) {
  int taken = 0;
  for (int i = 0; i < n && taken < k; i += kBlock) {
    const int count = n - i < kBlock ? n - i : kBlock;
    if (largest(x + i, count) < cut.value) continue;
    taken = take(x + i, count, i, cut, out, taken);
  }
}

// k is small beside the number of blocks. scratch: maxima, then the blocks that count, one after another.
void take_from_blocks(const float* x, int n, int k, int32_t* out, float* scratch) {
  const int blocks = (n + kBlock - 1) / kBlock;
  float* const maxima = scratch;
  float* const chosen = scratch + blocks;
  for (int b = 0; b < blocks; ++b) {
    maxima[b] = largest(x + b * kBlock, n - b * kBlock < kBlock ? n - b * kBlock : kBlock);
  }
  // At least k numbers reach the k-th largest maximum, so T does; and blocks that do not reach it hold none of the k.
  const Cut bound = find_cut(maxima, blocks, k, none());
  const float least = bound.ties > 0 ? bound.value : value_of(pattern(bound.value) + 1);
  int size = 0;
  for (int b = 0; b < blocks; ++b) {
    if (maxima[b] < least) continue;
    const int count = n - b * kBlock < kBlock ? n - b * kBlock : kBlock;
    __builtin_memcpy(chosen + size, x + b * kBlock, static_cast<size_t>(count) * sizeof(float));
    size += count;
  }
  Cut cut = find_cut(chosen, size, k, least);
  int taken = 0;
  for (int b = 0; b < blocks && taken < k; ++b) {
    if (maxima[b] < cut.value) continue;
    taken = take(x + b * kBlock, n - b * kBlock < kBlock ? n - b * kBlock : kBlock, b * kBlock, cut, out, taken);
  }
}

// ---- order = value: (value, index) in one number, sorted by a heap -------------------------------------------------

TS_INLINE void sift_down(uint64_t* heap, int at, int n) {  // the smallest on top
  const uint64_t moved = heap[at];
  for (int child = 2 * at + 1; child < n; at = child, child = 2 * at + 1) {
    if (child + 1 < n && heap[child + 1] < heap[child]) ++child;
    if (moved <= heap[child]) break;
    heap[at] = heap[child];
  }
  heap[at] = moved;
}

void sort_by_value(const float* x, int32_t* indices, int k, uint64_t* keys) {
  for (int i = 0; i < k; ++i) {
    const float value = x[indices[i]];
    const uint32_t high = pattern(value == value ? value + 0.0f : none());  // + 0: -0 becomes +0
    keys[i] = static_cast<uint64_t>(high) << 32 | (0xffffffffu - static_cast<uint32_t>(indices[i]));
  }
  for (int i = k / 2 - 1; i >= 0; --i) sift_down(keys, i, k);
  for (int i = k - 1; i >= 0; --i) {
    indices[i] = static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(keys[0]));
    keys[0] = keys[i];
    sift_down(keys, 0, i);
  }
}

}  // namespace

void top_k(const float* x, int n, int k, Order order, int32_t* out, void* scratch, Team&) noexcept {
  if (k <= 0) return;
  if (k == 1) {
    out[0] = largest_index(x, n);
    return;
  }
  const int blocks = n / kBlock;
  if (blocks >= 32 && k <= blocks / 4) {
    take_from_blocks(x, n, k, out, static_cast<float*>(scratch));
  } else {
    take_all(x, n, find_cut(x, n, k, none()), k, out);
  }
  if (order == Order::value) sort_by_value(x, out, k, static_cast<uint64_t*>(scratch));
}

}  // namespace tokensieve::kernels::TS_ISA
