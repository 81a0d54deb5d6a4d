// NativeModel and NativeSampler of lib/native.ts.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <string>

#include "addon/session.h"
#include "engine/stage.h"

namespace tokensieve::addon {

class JsModel : public Napi::ObjectWrap<JsModel> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::shared_ptr<const Model> model);
  explicit JsModel(const Napi::CallbackInfo& info);
  ~JsModel() override;

 private:
  const Model& get(Napi::Env env);
  Napi::Value config(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value isa(const Napi::CallbackInfo& info);
  Napi::Value stages(const Napi::CallbackInfo& info);
  Napi::Value fingerprint(const Napi::CallbackInfo& info);
  Napi::Value row_bytes(const Napi::CallbackInfo& info);
  Napi::Value session(const Napi::CallbackInfo& info);
  Napi::Value restore(const Napi::CallbackInfo& info);
  Napi::Value sampler(const Napi::CallbackInfo& info);
  Napi::Value advance(const Napi::CallbackInfo& info);
  Napi::Value speak(const Napi::CallbackInfo& info);
  Napi::Value apply(const Napi::CallbackInfo& info);
  Napi::Value save(const Napi::CallbackInfo& info);
  Napi::Value probe(const Napi::CallbackInfo& info);
  Napi::Value probe_keys(const Napi::CallbackInfo& info);
  Napi::Value probe_partners(const Napi::CallbackInfo& info);
  Napi::Value probe_rows(const Napi::CallbackInfo& info);
  Napi::Value probe_means(const Napi::CallbackInfo& info);
  Napi::Value probe_rank(const Napi::CallbackInfo& info);
  Napi::Value match(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  // Work on one session, off the event loop, while it takes no other call.
  template <class Result>
  Napi::Value work_on(const Napi::CallbackInfo& info, std::function<Result(Stage&, Session&)> work,
                      std::function<Napi::Value(Napi::Env, Result&)> finish);
  Napi::Value look(const Napi::CallbackInfo& info, std::function<std::vector<float>(Stage&, Session&)> work);
  Napi::Env begin_work(const Napi::CallbackInfo& info);

  std::shared_ptr<const Model> model_;
  std::shared_ptr<Stage> stage_;
  std::shared_ptr<std::atomic<bool>> busy_;
  int64_t bytes_ = 0;  // of an open model
};

class JsSampler : public Napi::ObjectWrap<JsSampler> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit JsSampler(const Napi::CallbackInfo& info);
  static JsSampler* from(const Napi::Value& v);
  std::shared_ptr<Sampler> sampler;

 private:
  Napi::Value kind(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), "sampler"); }
};

// load(file, options, progress): { model, cancel }
Napi::Value load(const Napi::CallbackInfo& info);

}  // namespace tokensieve::addon
