#include "addon/vision.h"

#include <utility>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/worker.h"
#include "core/trace.h"

namespace tokensieve::addon {

namespace {

constexpr const char* kProjectors[] = {"linear", "mlp", "pixelShuffle"};
constexpr const char* kLooks[] = {"class", "classLogits", "received", "given", "keys", "keyCosines", "pairs"};

VisionLook::What need_what(const Napi::Value& v) {
  const std::string name = need_string(v, "what");
  for (int i = 0; i < 7; i++) {
    if (name == kLooks[i]) return static_cast<VisionLook::What>(i);
  }
  wrong(v.Env(), "what", "the name of something to observe");
}

std::vector<VisionLook> read_looks(const Napi::Value& v, int layers) {
  if (!v.IsArray()) wrong(v.Env(), "looks", "an array");
  const Napi::Array list = v.As<Napi::Array>();
  std::vector<VisionLook> looks;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Object o = need_object(list.Get(i), "look");
    looks.push_back({need_int(o.Get("layer"), "layer", 0, layers - 1), need_what(o.Get("what"))});
  }
  return looks;
}

}  // namespace

Napi::Function JsVision::define(Napi::Env env) {
  return DefineClass(env, "Vision",
                     {
                         InstanceAccessor<&JsVision::config>("config"),
                         InstanceAccessor<&JsVision::bytes>("bytes"),
                         InstanceAccessor<&JsVision::fingerprint>("fingerprint"),
                         InstanceMethod<&JsVision::open>("open"),
                         InstanceMethod<&JsVision::advance>("advance"),
                         InstanceMethod<&JsVision::apply>("apply"),
                         InstanceMethod<&JsVision::cosines>("cosines"),
                         InstanceMethod<&JsVision::close>("close"),
                     });
}

JsVision::JsVision(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<JsVision>(info), busy_(std::make_shared<std::atomic<bool>>(false)) {
  if (info.Length() != 1 || !info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "Expected a tower to be made by loadVision");
  model_ = *info[0].As<Napi::External<std::shared_ptr<const VisionModel>>>().Data();
  tower_ = std::make_shared<Tower>(model_);
  reported_ = static_cast<int64_t>(model_->weight_bytes);
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), reported_);
}

Napi::Object JsVision::make(Napi::Env env, std::shared_ptr<const VisionModel> model) {
  return AddonData::of(env).vision_class.New({Napi::External<std::shared_ptr<const VisionModel>>::New(env, &model)});
}

const VisionModel& JsVision::get(Napi::Env env) {
  if (!model_) throw to_js(env, Code::closed, "[vision] expected an open tower, this one was closed");
  return *model_;
}

Napi::Value JsVision::config(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const VisionModel& m = get(env);
  const VisionConfig& c = m.config;
  Napi::Object o = Napi::Object::New(env);
  o.Set("imageSize", c.image);
  o.Set("patchSize", c.patch);
  o.Set("side", c.side);
  o.Set("layers", c.layers);
  o.Set("width", c.width);
  o.Set("heads", c.heads);
  o.Set("headSize", c.head_size);
  o.Set("classToken", c.class_token);
  o.Set("projector", kProjectors[static_cast<int>(c.projector)]);
  o.Set("pool", c.pool);
  o.Set("outputSize", c.output);
  Napi::Array mean = Napi::Array::New(env, 3), deviation = Napi::Array::New(env, 3);
  for (uint32_t i = 0; i < 3; i++) mean.Set(i, c.mean[i]), deviation.Set(i, c.deviation[i]);
  o.Set("mean", mean);
  o.Set("deviation", deviation);
  o.Set("newline", copy_array(env, m.newline));
  return o;
}
Napi::Value JsVision::bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(get(info.Env()).weight_bytes));
}
Napi::Value JsVision::fingerprint(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), get(info.Env()).fingerprint);
}

Napi::Value JsVision::open(const Napi::CallbackInfo& info) {
  const VisionConfig& c = get(info.Env()).config;
  Napi::Float32Array pixels = need_array<float>(info[0], "pixels");
  const int crops = need_int(info[1], "crops", 1, 1 << 20);
  const size_t crop = size_t{3} * static_cast<size_t>(c.image) * static_cast<size_t>(c.image);
  if (pixels.ElementLength() != static_cast<size_t>(crops) * crop)
    wrong(info.Env(), "pixels", (std::to_string(crop) + " numbers for each crop").c_str());
  return JsGlance::make(info.Env(),
                        guarded(info.Env(), [&] { return std::make_unique<Glance>(model_, pixels.Data(), crops); }));
}

Napi::Value JsVision::work_on(const Napi::CallbackInfo& info, std::function<void(Tower&, Glance&)> work,
                              std::function<Napi::Value(Napi::Env)> result) {
  const Napi::Env env = info.Env();
  if (*busy_) throw to_js(env, Code::internal, "[vision] expected one piece of work at a time");
  const Napi::Object object = need_object(info[0], "glance");
  JsGlance* const js = JsGlance::from(object);
  std::shared_ptr<Glance> glance = js->share(env);
  if (&glance->model() != model_.get()) wrong(env, "glance", "one of this tower's");
  std::shared_ptr<Running> running = AddonData::of(env).running;
  glance->stop() = false;
  *busy_ = true;
  js->set_busy(true);
  running->stops.insert(&glance->stop());
  auto* worker = new PromiseWorker<int>(
      env,
      [tower = tower_, glance, work = std::move(work)] {
        const trace::Span span(trace::Kind::call, "vision");
        return work(*tower, *glance), 0;
      },
      [result = std::move(result)](Napi::Env e, int&) { return result(e); }, {object, info.This().As<Napi::Object>()},
      [running, glance, js, busy = busy_] {
        running->stops.erase(&glance->stop());
        *busy = false;
        if (!running->ending) js->set_busy(false), js->report();
      });
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

Napi::Value JsVision::advance(const Napi::CallbackInfo& info) {
  const int layers = get(info.Env()).config.layers, to = need_int(info[1], "to", 0, 2 * layers + 1);
  std::vector<VisionLook> looks = read_looks(info[2], layers);
  return work_on(info, [to, looks = std::move(looks)](Tower& tower, Glance& g) { tower.advance(g, to, looks); });
}

Napi::Value JsVision::apply(const Napi::CallbackInfo& info) {
  get(info.Env());
  const Napi::Object action = need_object(info[1], "action");
  std::function<void(Glance&)> cut;
  if (action.Has("drop")) {
    cut = [kept = copy_of<int32_t>(action.Get("drop"), "drop")](Glance& g) { g.drop(kept); };
  } else if (action.Has("join")) {
    cut = [count = need_int(action.Get("join"), "join", 1, 1 << 20)](Glance& g) { g.join(count); };
  } else if (action.Has("carry")) {
    cut = [](Glance& g) { g.carry(); };
  } else if (action.Has("recall")) {
    cut = [sources = copy_of<int32_t>(action.Get("recall"), "recall")](Glance& g) { g.recall(sources); };
  } else if (action.Has("blend")) {
    cut = [into = copy_of<int32_t>(action.Get("blend"), "blend"),
           weights = copy_of<float>(action.Get("weights"), "weights")](Glance& g) { g.blend(into, weights); };
  } else {
    std::vector<float> weights;
    if (!action.Get("weights").IsUndefined()) weights = copy_of<float>(action.Get("weights"), "weights");
    cut = [into = copy_of<int32_t>(action.Get("merge"), "merge"), weights = std::move(weights),
           proportional = is_true(action.Get("proportional"))](Glance& g) { g.merge(into, weights, proportional); };
  }
  return work_on(info, [cut = std::move(cut)](Tower& tower, Glance& g) {
    if (g.place() < 0) tower.advance(g, 0, {});
    cut(g);
  });
}

Napi::Value JsVision::cosines(const Napi::CallbackInfo& info) {
  get(info.Env());
  auto found = std::make_shared<std::vector<float>>();
  return work_on(
      info,
      [found](Tower& tower, Glance& g) {
        if (g.place() < 0) tower.advance(g, 0, {});
        *found = tower.cosines(g);
      },
      [found](Napi::Env env) { return copy_array(env, *found); });
}

void JsVision::close(const Napi::CallbackInfo& info) {
  model_.reset();
  tower_.reset();
  trim_heap();
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), -reported_);
  reported_ = 0;
}

// ---- glances

Napi::Function JsGlance::define(Napi::Env env) {
  return DefineClass(env, "Glance",
                     {
                         InstanceMethod<&JsGlance::rows>("rows"),
                         InstanceMethod<&JsGlance::sizes>("sizes"),
                         InstanceMethod<&JsGlance::hidden>("hidden"),
                         InstanceMethod<&JsGlance::class_hidden>("classHidden"),
                         InstanceMethod<&JsGlance::seen>("seen"),
                         InstanceMethod<&JsGlance::interrupt>("interrupt"),
                         InstanceMethod<&JsGlance::close>("close"),
                     });
}

JsGlance::JsGlance(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsGlance>(info) {
  if (info.Length() != 1 || !info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "Expected a glance to be made by vision.open");
  glance_ = std::shared_ptr<Glance>(info[0].As<Napi::External<std::unique_ptr<Glance>>>().Data()->release());
}

JsGlance::~JsGlance() {
  if (glance_) glance_->stop() = true;  // what still runs holds its own share
}

Napi::Object JsGlance::make(Napi::Env env, std::unique_ptr<Glance> glance) {
  const Napi::Object object =
      AddonData::of(env).glance_class.New({Napi::External<std::unique_ptr<Glance>>::New(env, &glance)});
  Unwrap(object)->report();
  return object;
}

JsGlance* JsGlance::from(const Napi::Value& v) {
  const Napi::Object o = need_object(v, "glance");
  if (!o.InstanceOf(AddonData::of(v.Env()).glance_class.Value())) wrong(v.Env(), "glance", "a glance");
  return Unwrap(o);
}

Glance& JsGlance::idle(Napi::Env env) {
  if (!glance_) throw to_js(env, Code::closed, "[vision] expected an open glance, this one was closed");
  if (busy_) throw to_js(env, Code::internal, "[vision] expected no work to be under way");
  return *glance_;
}
std::shared_ptr<Glance> JsGlance::share(Napi::Env env) {
  idle(env);
  return glance_;
}

void JsGlance::report() {
  const int64_t now = glance_ ? static_cast<int64_t>(glance_->bytes()) : 0;
  Napi::MemoryManagement::AdjustExternalMemory(Env(), now - reported_);
  reported_ = now;
}

Napi::Value JsGlance::rows(const Napi::CallbackInfo& info) {
  return copy_array(info.Env(), idle(info.Env()).sources());
}
Napi::Value JsGlance::sizes(const Napi::CallbackInfo& info) { return copy_array(info.Env(), idle(info.Env()).sizes()); }
Napi::Value JsGlance::hidden(const Napi::CallbackInfo& info) {
  return copy_array(info.Env(), idle(info.Env()).patch_rows());
}
Napi::Value JsGlance::class_hidden(const Napi::CallbackInfo& info) {
  return copy_array(info.Env(), idle(info.Env()).class_tokens());
}
Napi::Value JsGlance::seen(const Napi::CallbackInfo& info) {
  const Glance& g = idle(info.Env());
  const int layer = need_int(info[0], "layer", 0, g.model().config.layers - 1);
  const VisionLook::What what = need_what(info[1]);
  return copy_array(info.Env(),
                    guarded(info.Env(), [&]() -> const std::vector<float>& { return g.seen(layer, what); }));
}
void JsGlance::interrupt(const Napi::CallbackInfo&) {
  if (glance_) glance_->stop() = true;
}
void JsGlance::close(const Napi::CallbackInfo&) {
  if (glance_) glance_->stop() = true;
  glance_.reset();
  report();
}

}  // namespace tokensieve::addon
