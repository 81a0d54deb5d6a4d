// Kernel hadamard: every head times the orthonormal Walsh-Hadamard matrix of its size,
// x'[i] = sum over j of (-1)^popcount(i & j) x[j] / sqrt(head_size). Its own inverse, and inner products stay as they
// are: a query and a key that both were transformed score as before. An outlier of one channel is spread over all,
// which is what a scale that 32 channels share needs.
// x: row t, head h at x + t * ldx + h * head_size, in place. f32. head_size: a power of two, 16 to 256.
#pragma once

#include <cstddef>

#include "core/pool.h"

namespace tokensieve::kernels {

constexpr int kMaxHadamard = 256;
constexpr bool takes_hadamard(int size) { return size >= 16 && size <= kMaxHadamard && (size & (size - 1)) == 0; }

using Hadamard = void (*)(float* x, size_t ldx, int n, int heads, int head_size, Team& team) noexcept;

}  // namespace tokensieve::kernels
