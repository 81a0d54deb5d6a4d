// A backend whose kernels tell the trace when they ran, and are otherwise the given one's. What a team does not share in
// (page layouts, packing) stays as it is.
#pragma once

#include "kernels/backend.h"

namespace tokensieve::kernels {

// backend: one of runnable_backends().
const Backend& traced_backend(const Backend& backend) noexcept;

// Functions of the table that are not told of.
constexpr int kUntraced = 19;

}  // namespace tokensieve::kernels
