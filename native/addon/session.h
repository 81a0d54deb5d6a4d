// NativeSession of lib/native.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "engine/session.h"

namespace tokensieve::addon {

class JsSession : public Napi::ObjectWrap<JsSession> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::unique_ptr<Session> session);
  static JsSession* from(const Napi::Value& v);          // throws where it is another object

  explicit JsSession(const Napi::CallbackInfo& info);
  ~JsSession() override;

  Session& get(Napi::Env env);                            // throws ERR_CLOSED
  std::shared_ptr<Session> share(Napi::Env env);          // for work off the event loop
  void set_busy(bool busy) { busy_ = busy; }
  void report();                                          // tells V8 what the cache takes

 private:
  Session& idle(Napi::Env env);                           // also refuses while a stage call runs
  int layer(const Napi::Value& v);
  int head(const Napi::Value& v);

  void begin(const Napi::CallbackInfo& info);
  void peek(const Napi::CallbackInfo& info);
  Napi::Value knows_last(const Napi::CallbackInfo& info);
  Napi::Value rows(const Napi::CallbackInfo& info);
  Napi::Value hidden(const Napi::CallbackInfo& info);
  Napi::Value attention(const Napi::CallbackInfo& info);
  Napi::Value expected(const Napi::CallbackInfo& info);
  void commit(const Napi::CallbackInfo& info);
  void rollback(const Napi::CallbackInfo& info);
  void interrupt(const Napi::CallbackInfo& info);
  Napi::Value live_rows(const Napi::CallbackInfo& info);
  Napi::Value cache_rows(const Napi::CallbackInfo& info);
  Napi::Value cache_sources(const Napi::CallbackInfo& info);
  Napi::Value cache_mass(const Napi::CallbackInfo& info);
  Napi::Value cache_dropped(const Napi::CallbackInfo& info);
  Napi::Value cache_keys(const Napi::CallbackInfo& info);
  Napi::Value cache_values(const Napi::CallbackInfo& info);
  Napi::Value cache_key_norms(const Napi::CallbackInfo& info);
  Napi::Value stored_sources(const Napi::CallbackInfo& info);
  Napi::Value stored_values(const Napi::CallbackInfo& info);
  Napi::Float32Array cache_side(const Napi::CallbackInfo& info, kernels::Side side);
  void set_rule(const Napi::CallbackInfo& info);
  void truncate(const Napi::CallbackInfo& info);
  void reset(const Napi::CallbackInfo& info);
  Napi::Value fork(const Napi::CallbackInfo& info);
  Napi::Value first_rows(const Napi::CallbackInfo& info);
  void take(const Napi::CallbackInfo& info);
  void give_back(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::shared_ptr<Session> session_;
  bool busy_ = false;
  int64_t reported_ = 0, most_ = 0;  // bytes of the cache; most: since it was made or reset
};

SessionOptions session_options(const Napi::Value& v, const Config& config);

}  // namespace tokensieve::addon
