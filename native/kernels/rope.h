// Kernel rope: rotates pairs (i, i + rotated / 2), i < rotated / 2, of every head by the angle of its row: the "halves" order
// (interleaved files are permuted at load). x'[i] = x[i] cos - x[i + r/2] sin, x'[i + r/2] = x[i + r/2] cos + x[i] sin; the rest of a head stays.
// x: row t, head h at x + t * ldx + h * head_size, in place. cos, sin: [n][rotated / 2], row t for row t of x.
// rotated is even and <= head_size. f32.
#pragma once

#include <cstddef>

#include "core/pool.h"

namespace tokensieve::kernels {

using Rope = void (*)(float* x, size_t ldx, int n, int heads, int head_size, int rotated, const float* cos,
                      const float* sin, Team& team) noexcept;

}  // namespace tokensieve::kernels
