// The machine's limits, measured: what figures of speed are held against. Takes well under a second; not for the event loop.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/backend.h"

namespace tokensieve {

// Of all threads together, one number a pass.
struct Limits {
  std::vector<double> read;  // bytes a second of a plain read from memory
  std::vector<double> int8, bf16, f32;  // operations a second (a multiply-add is two); empty where the backend has none
};

// bytes: read in one pass, in huge pages where the system gives them; several times the largest cache. A card has no
// threads and reads more, within its free memory; nothing in a list: it could not. Throws out_of_memory.
Limits measure_limits(const kernels::Backend& backend, int threads, size_t bytes);

}  // namespace tokensieve
