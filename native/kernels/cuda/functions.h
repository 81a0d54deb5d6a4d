// The functions of the CUDA backend, one for each member of Backend but norm_prepare, gate_prepare, those of screen.h and what measures a device
// (limits.h). Those that have a team hand their work to its queue and return.
#pragma once

#include "kernels/functions.h"

namespace tokensieve::kernels::cuda {

#include "kernels/declare.inc"
Function<MatmulGate> matmul_gate;

}  // namespace tokensieve::kernels::cuda
