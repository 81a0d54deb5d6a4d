// The low-level kernels on typed arrays: NativeKernels of lib/native.ts.
#pragma once

#include <napi.h>

namespace tokensieve::addon {

Napi::Object make_kernels(Napi::Env env);

}  // namespace tokensieve::addon
