// Compiled where there is no compiler for CUDA: the same addon, which knows of no device.
#include "kernels/backend.h"

namespace tokensieve::kernels {

int cuda_devices() noexcept { return 0; }
const Backend* cuda_backend(int) noexcept { return nullptr; }
const char* cuda_device_name(int) noexcept { return ""; }

}  // namespace tokensieve::kernels
