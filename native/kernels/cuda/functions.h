// The functions of the CUDA backend, one for each member of Backend but matmul_gate (it does one after the other) and
// what measures the processor (limits.h). Those
// that have a team hand their work to its queue and return.
#pragma once

#include "kernels/functions.h"

namespace tokensieve::kernels::cuda {

#include "kernels/declare.inc"

}  // namespace tokensieve::kernels::cuda
