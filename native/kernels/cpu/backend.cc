// The table of one instruction set.
#include "kernels/cpu/functions.h"

namespace tokensieve::kernels::TS_ISA {

const Backend& backend() noexcept {
  static constexpr Backend table = {
      TS_ISA_NAME,
#include "kernels/table.inc"
      matmul_gate, norm_prepare, gate_prepare, plane_bytes, pack_planes, screen, peak, read_memory, nullptr,
  };
  return table;
}

}  // namespace tokensieve::kernels::TS_ISA
