// The functions of the reference backend, one for each member of Backend but norm_prepare and gate_prepare.
#pragma once

#include "kernels/functions.h"

namespace tokensieve::kernels::reference {

#include "kernels/declare.inc"
Function<MatmulGate> matmul_gate;
Function<PlaneSizes> plane_bytes;
Function<PackPlanes> pack_planes;
Function<Screen> screen;
Function<Peak> peak;
Function<ReadMemory> read_memory;

}  // namespace tokensieve::kernels::reference
