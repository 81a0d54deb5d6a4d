// NativeVision and NativeGlance of lib/native-vision.ts, and resample.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>

#include "engine/vision/tower.h"

namespace tokensieve::addon {

class JsVision : public Napi::ObjectWrap<JsVision> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::shared_ptr<const VisionModel> model);
  explicit JsVision(const Napi::CallbackInfo& info);

 private:
  const VisionModel& get(Napi::Env env);
  Napi::Value config(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value fingerprint(const Napi::CallbackInfo& info);
  Napi::Value open(const Napi::CallbackInfo& info);
  Napi::Value advance(const Napi::CallbackInfo& info);
  Napi::Value apply(const Napi::CallbackInfo& info);
  Napi::Value cosines(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
  Napi::Value work_on(
      const Napi::CallbackInfo& info, std::function<void(Tower&, Glance&)> work,
      std::function<Napi::Value(Napi::Env)> result = [](Napi::Env env) { return env.Undefined(); });

  std::shared_ptr<const VisionModel> model_;
  std::shared_ptr<Tower> tower_;
  std::shared_ptr<std::atomic<bool>> busy_;
  int64_t reported_ = 0;
};

class JsGlance : public Napi::ObjectWrap<JsGlance> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::unique_ptr<Glance> glance);
  static JsGlance* from(const Napi::Value& v);  // throws where it is another object
  explicit JsGlance(const Napi::CallbackInfo& info);
  ~JsGlance() override;

  std::shared_ptr<Glance> share(Napi::Env env);  // for work off the event loop
  void set_busy(bool busy) { busy_ = busy; }
  void report();  // tells V8 what the rows take

 private:
  Glance& idle(Napi::Env env);  // throws ERR_CLOSED; refuses while work is under way
  Napi::Value rows(const Napi::CallbackInfo& info);
  Napi::Value sizes(const Napi::CallbackInfo& info);
  Napi::Value hidden(const Napi::CallbackInfo& info);
  Napi::Value class_hidden(const Napi::CallbackInfo& info);
  Napi::Value seen(const Napi::CallbackInfo& info);
  void interrupt(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::shared_ptr<Glance> glance_;
  bool busy_ = false;
  int64_t reported_ = 0;
};

// loadVision(file, options, progress): { vision, cancel } (load.cc)
Napi::Value load_vision_tower(const Napi::CallbackInfo& info);

// resample(pixels, width, height, to): Promise<Uint8Array>
Napi::Value resample_pixels(const Napi::CallbackInfo& info);

}  // namespace tokensieve::addon
