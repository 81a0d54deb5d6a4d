// Limits of the machine and traces of what runs: NativeKernels.limits and Addon.trace of lib/native.ts.
#pragma once

#include <napi.h>

namespace tokensieve::addon {

// limits(backend, threads, bytes): Promise<{ read, int8, bf16, f32 }>
Napi::Value limits(const Napi::CallbackInfo& info);

// { start(), stop() }
Napi::Object make_trace(Napi::Env env);

}  // namespace tokensieve::addon
