// Loading: a model is read and packed off the event loop, with progress on it.
#include <functional>
#include <utility>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/file.h"
#include "addon/model.h"
#include "addon/vision.h"
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

// name: of the promise in what comes back. read: off the event loop.
template <class Made>
using Reader = std::function<std::shared_ptr<const Made>(const Weights& weights, const kernels::Backend& backend,
                                                         int threads, const LoadControl& control)>;
template <class Made>
Napi::Value load_as(const Napi::CallbackInfo& info, const char* name, Reader<Made> read,
                    Napi::Object (*make)(Napi::Env env, std::shared_ptr<const Made> made)) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<Weights> weights = JsFile::from(info[0])->share(env);
  const Napi::Object options = need_object(info[1], "options");
  const int threads = need_int(options.Get("threads"), "threads", 1, 1024);
  const std::string isa = need_string(options.Get("isa"), "isa");
  auto stop = std::make_shared<std::atomic<bool>>(false);
  std::shared_ptr<Running> running = AddonData::of(env).running;
  running->stops.insert(stop.get());

  const bool screen = !options.Get("screen").IsBoolean() || is_true(options.Get("screen"));

  const bool told = info[2].IsFunction();
  ProgressFunction tell;
  if (told) tell = ProgressFunction::New(env, info[2].As<Napi::Function>(), "tokensieve load", 0, 1);
  auto work = [=]() mutable {
    LoadControl control;
    control.stop = stop.get();
    control.screen = screen;
    uint64_t last = 0;
    if (told) {
      control.progress = [&](uint64_t done, uint64_t total) {
        if (done < total && done - last < total / 200) return;  // at most 200 calls
        last = done;
        auto* p = new Progress{static_cast<double>(done), static_cast<double>(total)};
        if (tell.NonBlockingCall(p) != napi_ok) delete p;
      };
    }
    return read(*weights, choose_backend(isa), threads, control);
  };
  auto* worker = new PromiseWorker<std::shared_ptr<const Made>>(
      env, work, [make](Napi::Env e, std::shared_ptr<const Made>& made) { return make(e, made); },
      {info[0].As<Napi::Object>()},
      [=]() mutable {
        running->stops.erase(stop.get());
        if (told) tell.Release();
      });
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  Napi::Object out = Napi::Object::New(env);
  out.Set(name, promise);
  out.Set("cancel", Napi::Function::New(env, [stop](const Napi::CallbackInfo&) { *stop = true; }));
  return out;
}

// options.placement: 'fit', or [{ from, to, card }] (to < 0: the last layer; card < 0: the processor), or nothing: all there.
PlacementPlan need_placement(const Napi::Value& v) {
  PlacementPlan plan;
  plan.fit = v.IsString();
  if (plan.fit || v.IsUndefined()) return plan;
  const Napi::Array parts = v.As<Napi::Array>();
  for (uint32_t i = 0; i < parts.Length(); i++) {
    const Napi::Object part = need_object(parts.Get(i), "placement");
    plan.wishes.push_back({need_int(part.Get("from"), "from", 0, 1024), need_int(part.Get("to"), "to", -1, 1024),
                           need_int(part.Get("card"), "card", -1, 1024)});
  }
  return plan;
}

}  // namespace

// V8 collects everything when it hears of that much memory at once. It hears of a model when the next one is loaded: that
// is when a forgotten one matters, and not between a model and its first token.
Napi::Value load(const Napi::CallbackInfo& info) {
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), std::exchange(AddonData::of(info.Env()).untold, 0));
  const PlacementPlan plan = need_placement(need_object(info[1], "options").Get("placement"));
  return load_as<Model>(
      info, "model",
      [plan](const Weights& weights, const kernels::Backend& backend, int threads, const LoadControl& control) {
        return std::shared_ptr<const Model>(load_model(weights, backend, plan, threads, control));
      },
      JsModel::make);
}

Napi::Value load_vision_tower(const Napi::CallbackInfo& info) {
  return load_as<VisionModel>(
      info, "vision",
      [](const Weights& weights, const kernels::Backend& backend, int threads, const LoadControl& control) {
        return std::shared_ptr<const VisionModel>(load_vision(weights, backend, threads, control));
      },
      JsVision::make);
}

}  // namespace tokensieve::addon
