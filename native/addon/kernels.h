// The low-level kernels on typed arrays: NativeKernels of lib/native.ts.
#pragma once

#include <napi.h>

#include "kernels/backend.h"

namespace tokensieve::addon {

Napi::Object make_kernels(Napi::Env env);

// The one that is named so, "cpu" for the best; ERR_DEVICE where this machine has none.
const kernels::Backend& need_backend(const Napi::Value& v);

}  // namespace tokensieve::addon
