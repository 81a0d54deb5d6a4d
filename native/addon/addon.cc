// The addon's entry: classes, load, kernels. Loaded once for the main thread and once for each worker thread that uses it.
#include <napi.h>

#include <string>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/file.h"
#include "addon/kernels.h"
#include "addon/measure.h"
#include "addon/model.h"
#include "addon/vision.h"
#include "addon/vocabulary.h"
#include "addon/worker.h"
#include "core/pool.h"
#include "engine/card_check.h"
#include "engine/kv_cache.h"

namespace tokensieve::addon {

// devices(): [{ device, name, free }]
Napi::Value devices(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (int i = 0; i < kernels::cuda_devices(); i++) {
    const kernels::Backend& backend = *kernels::cuda_backend(i);
    Napi::Object one = Napi::Object::New(info.Env());
    one.Set("device", backend.name);
    one.Set("name", kernels::cuda_device_name(i));
    one.Set("free", static_cast<double>(backend.memory->free_bytes(i)));
    out.Set(static_cast<uint32_t>(i), one);
  }
  return out;
}

// checkDevice(card): Promise<string>
Napi::Value check_device(const Napi::CallbackInfo& info) {
  const int card = need_int(info[0], "card", 0, 7);
  auto* worker = new PromiseWorker<std::string>(
      info.Env(), [card] { return card_fault(card); },
      [](Napi::Env env, std::string& fault) -> Napi::Value { return Napi::String::New(env, fault); }, {});
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* data = new AddonData();
  env.SetInstanceData(data);
  data->file_class = Napi::Persistent(JsFile::define(env));
  data->session_class = Napi::Persistent(JsSession::define(env));
  data->model_class = Napi::Persistent(JsModel::define(env));
  data->sampler_class = Napi::Persistent(JsSampler::define(env));
  data->vision_class = Napi::Persistent(JsVision::define(env));
  data->glance_class = Napi::Persistent(JsGlance::define(env));
  // A thread that ends waits for its work: tell it to stop, so that the wait is short.
  env.AddCleanupHook([running = data->running] {
    running->ending = true;
    for (std::atomic<bool>* stop : running->stops) *stop = true;
  });
  exports.Set("open", Napi::Function::New(env, open, "open"));
  exports.Set("load", Napi::Function::New(env, load, "load"));
  exports.Set("loadVision", Napi::Function::New(env, load_vision_tower, "loadVision"));
  exports.Set("resample", Napi::Function::New(env, resample_pixels, "resample"));
  exports.Set("byteTable", Napi::Function::New(env, make_byte_table, "byteTable"));
  exports.Set("pieces", Napi::Function::New(env, make_pieces, "pieces"));
  exports.Set("devices", Napi::Function::New(env, devices));
  exports.Set("checkDevice", Napi::Function::New(env, check_device));
  exports.Set("physicalCores", Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
                return Napi::Number::New(info.Env(), physical_cores());
              }));
  exports.Set("cacheBytes", Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
                return Napi::Number::New(info.Env(), static_cast<double>(page_allocator_bytes()));
              }));
  exports.Set("kernels", make_kernels(env));
  exports.Set("trace", make_trace(env));
  return exports;
}

}  // namespace tokensieve::addon

using tokensieve::addon::init;
NODE_API_MODULE(tokensieve, init)
