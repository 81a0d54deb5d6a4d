// Kernel top_k: the indices of the k largest of n numbers, ascending by index (order = index) or descending by value (order = value); equal values: the lower index first.
// NaN counts as -infinity. 0 <= k <= n. out [k]. scratch: n * 8 bytes, 8-byte aligned (k == 1 uses none).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/pool.h"

namespace tokensieve::kernels {

enum class Order : uint8_t { index, value };

using TopK = void (*)(const float* x, int n, int k, Order order, int32_t* out, void* scratch, Team& team) noexcept;

}  // namespace tokensieve::kernels
