// Loading: a model is read and packed off the event loop, with progress on it.
#include <utility>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/file.h"
#include "addon/model.h"
#include "addon/worker.h"

namespace tokensieve::addon {

namespace {

struct Progress {
  double done, total;
};
void call_progress(Napi::Env env, Napi::Function callback, std::nullptr_t*, Progress* p) {
  if (env != nullptr && !callback.IsEmpty())
    callback.Call({Napi::Number::New(env, p->done), Napi::Number::New(env, p->total)});
  delete p;
}
using ProgressFunction = Napi::TypedThreadSafeFunction<std::nullptr_t, Progress, call_progress>;

}  // namespace

Napi::Value load(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<Weights> weights = JsFile::from(info[0])->share(env);
  const Napi::Object options = need_object(info[1], "options");
  const int threads = need_int(options.Get("threads"), "threads", 1, 1024);
  const std::string isa = need_string(options.Get("isa"), "isa");
  auto stop = std::make_shared<std::atomic<bool>>(false);
  std::shared_ptr<Running> running = AddonData::of(env).running;
  running->stops.insert(stop.get());

  const bool told = info[2].IsFunction();
  ProgressFunction tell;
  if (told) tell = ProgressFunction::New(env, info[2].As<Napi::Function>(), "tokensieve load", 0, 1);
  auto work = [=]() mutable {
    LoadControl control;
    control.stop = stop.get();
    uint64_t last = 0;
    if (told) {
      control.progress = [&](uint64_t done, uint64_t total) {
        if (done < total && done - last < total / 200) return;  // at most 200 calls
        last = done;
        auto* p = new Progress{static_cast<double>(done), static_cast<double>(total)};
        if (tell.NonBlockingCall(p) != napi_ok) delete p;
      };
    }
    return std::shared_ptr<const Model>(load_model(*weights, choose_backend(isa), threads, control));
  };
  auto* worker = new PromiseWorker<std::shared_ptr<const Model>>(
      env, work, [](Napi::Env e, std::shared_ptr<const Model>& m) { return JsModel::make(e, m); },
      {info[0].As<Napi::Object>()},
      [=]() mutable {
        running->stops.erase(stop.get());
        if (told) tell.Release();
      });
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  Napi::Object out = Napi::Object::New(env);
  out.Set("model", promise);
  out.Set("cancel", Napi::Function::New(env, [stop](const Napi::CallbackInfo&) { *stop = true; }));
  return out;
}

}  // namespace tokensieve::addon
