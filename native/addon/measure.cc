#include "addon/measure.h"

#include <map>
#include <string>

#include "addon/arguments.h"
#include "addon/kernels.h"
#include "addon/worker.h"
#include "core/trace.h"
#include "engine/limits.h"

namespace tokensieve::addon {

Napi::Value limits(const Napi::CallbackInfo& info) {
  const kernels::Backend& backend = need_backend(info[0]);
  const int threads = need_int(info[1], "threads", 1, 1024);
  const size_t bytes = static_cast<size_t>(need_number(info[2], "bytes"));
  auto* worker = new PromiseWorker<Limits>(
      info.Env(), [&backend, threads, bytes] { return measure_limits(backend, threads, bytes); },
      [](Napi::Env env, Limits& made) -> Napi::Value {
        Napi::Object o = Napi::Object::New(env);
        o.Set("read", copy_array(env, made.read));
        o.Set("int8", copy_array(env, made.int8));
        o.Set("bf16", copy_array(env, made.bf16));
        o.Set("f32", copy_array(env, made.f32));
        return o;
      },
      {});
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

namespace {

constexpr size_t kFields = 9;  // of an event: kind, name, thread, layer, begin, end, threads, rows, cols

Napi::Value start(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), trace::start()); }

// Times in milliseconds since start.
Napi::Value stop(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const trace::Recording made = guarded(env, trace::stop);
  const auto milliseconds = [&](int64_t time) { return static_cast<double>(time - made.begin) / 1e6; };
  Napi::Float64Array events = Napi::Float64Array::New(env, made.events.size() * kFields);
  Napi::Array names = Napi::Array::New(env);
  std::map<std::string, uint32_t> known;
  double* out = events.Data();
  for (const trace::Event& e : made.events) {
    const std::string name = e.name != nullptr ? e.name : "other";
    const auto [at, fresh] = known.emplace(name, names.Length());
    if (fresh) names.Set(at->second, name);
    const double fields[kFields] = {
        static_cast<double>(e.kind),    static_cast<double>(at->second), static_cast<double>(e.thread),
        static_cast<double>(e.layer),   milliseconds(e.begin),           milliseconds(e.end),
        static_cast<double>(e.threads), static_cast<double>(e.rows),     static_cast<double>(e.cols)};
    for (const double field : fields) *out++ = field;
  }
  Napi::Object o = Napi::Object::New(env);
  o.Set("time", milliseconds(made.end));
  o.Set("lost", static_cast<double>(made.lost));
  o.Set("names", names);
  o.Set("events", events);
  return o;
}

}  // namespace

Napi::Object make_trace(Napi::Env env) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("start", Napi::Function::New(env, start, "start"));
  o.Set("stop", Napi::Function::New(env, stop, "stop"));
  return o;
}

}  // namespace tokensieve::addon
