// The table of the reference backend.
#include "kernels/reference/functions.h"

namespace tokensieve::kernels {

namespace reference {
static constexpr Backend table = {
    "reference",
#include "kernels/table.inc"
    matmul_gate, nullptr, nullptr, plane_bytes, pack_planes, screen, peak, read_memory, nullptr,
};
}  // namespace reference

const Backend& reference_backend() noexcept { return reference::table; }

}  // namespace tokensieve::kernels
