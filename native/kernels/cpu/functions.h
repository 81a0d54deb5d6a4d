// The functions of one instruction set, one for each member of Backend. The build defines TS_ISA (a namespace: avx2,
// avx512_vnni, avx512_vnni_bf16, neon, neon_dotprod) and TS_ISA_NAME (its public name) for every unit of cpu/.
#pragma once

#include "kernels/functions.h"

namespace tokensieve::kernels::TS_ISA {

#include "kernels/declare.inc"
Function<MatmulGate> matmul_gate;
Function<NormPrepare> norm_prepare;
Function<GatePrepare> gate_prepare;
Function<PlaneSizes> plane_bytes;
Function<PackPlanes> pack_planes;
Function<Screen> screen;
Function<Peak> peak;
Function<ReadMemory> read_memory;

const Backend& backend() noexcept;

}  // namespace tokensieve::kernels::TS_ISA
