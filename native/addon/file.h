// NativeFile of lib/native.ts: a model file that is open for reading.
#pragma once

#include <napi.h>

#include <memory>

#include "engine/weights.h"

namespace tokensieve::addon {

class JsFile : public Napi::ObjectWrap<JsFile> {
 public:
  static Napi::Function define(Napi::Env env);
  static JsFile* from(const Napi::Value& v);
  explicit JsFile(const Napi::CallbackInfo& info);
  std::shared_ptr<Weights> share(Napi::Env env);

 private:
  const Weights& get(Napi::Env env);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value fingerprint(const Napi::CallbackInfo& info);
  Napi::Value metadata(const Napi::CallbackInfo& info);
  Napi::Value metadata_keys(const Napi::CallbackInfo& info);
  Napi::Value tensors(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::shared_ptr<Weights> weights_;
};

// open(path): Promise<NativeFile>
Napi::Value open(const Napi::CallbackInfo& info);

}  // namespace tokensieve::addon
