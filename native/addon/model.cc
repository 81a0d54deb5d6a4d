#include "addon/model.h"

#include <algorithm>
#include <utility>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/worker.h"

namespace tokensieve::addon {

Napi::Function JsModel::define(Napi::Env env) {
  return DefineClass(env, "Model",
                     {
                         InstanceAccessor<&JsModel::config>("config"),
                         InstanceAccessor<&JsModel::bytes>("bytes"),
                         InstanceAccessor<&JsModel::isa>("isa"),
                         InstanceAccessor<&JsModel::stages>("stages"),
                         InstanceAccessor<&JsModel::fingerprint>("fingerprint"),
                         InstanceMethod<&JsModel::row_bytes>("rowBytes"),
                         InstanceMethod<&JsModel::session>("session"),
                         InstanceMethod<&JsModel::restore>("restore"),
                         InstanceMethod<&JsModel::sampler>("sampler"),
                         InstanceMethod<&JsModel::advance>("advance"),
                         InstanceMethod<&JsModel::speak>("speak"),
                         InstanceMethod<&JsModel::apply>("apply"),
                         InstanceMethod<&JsModel::save>("save"),
                         InstanceMethod<&JsModel::probe>("probe"),
                         InstanceMethod<&JsModel::probe_keys>("probeKeys"),
                         InstanceMethod<&JsModel::probe_partners>("probePartners"),
                         InstanceMethod<&JsModel::match>("match"),
                         InstanceMethod<&JsModel::probe_rows>("probeRows"),
                         InstanceMethod<&JsModel::probe_means>("probeMeans"),
                         InstanceMethod<&JsModel::probe_rank>("probeRank"),
                         InstanceMethod<&JsModel::close>("close"),
                     });
}

JsModel::JsModel(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<JsModel>(info), busy_(std::make_shared<std::atomic<bool>>(false)) {
  if (info.Length() != 1 || !info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "Expected a model to be made by load");
  model_ = *info[0].As<Napi::External<std::shared_ptr<const Model>>>().Data();
  stage_ = std::make_shared<Stage>(model_);
  bytes_ = static_cast<int64_t>(model_->weight_bytes);
  AddonData::of(info.Env()).untold += bytes_;
}

JsModel::~JsModel() = default;

Napi::Object JsModel::make(Napi::Env env, std::shared_ptr<const Model> model) {
  return AddonData::of(env).model_class.New({Napi::External<std::shared_ptr<const Model>>::New(env, &model)});
}

const Model& JsModel::get(Napi::Env env) {
  if (!model_) throw to_js(env, Code::closed, "[model] expected an open model, this one was closed");
  return *model_;
}

Napi::Value JsModel::config(const Napi::CallbackInfo& info) {
  const Model& m = get(info.Env());
  const Config& c = m.config;
  Napi::Object o = Napi::Object::New(info.Env());
  o.Set("architecture", c.architecture);
  if (!c.name.empty()) o.Set("name", c.name);
  o.Set("layers", c.layers);
  o.Set("heads", c.heads);
  o.Set("kvHeads", c.kv_heads);
  o.Set("headSize", c.head_size);
  o.Set("hiddenSize", c.hidden);
  o.Set("feedForwardSize", c.feed_forward);
  o.Set("vocabularySize", c.vocabulary);
  o.Set("contextLength", c.context);
  Napi::Array windows = Napi::Array::New(info.Env(), m.layers.size());
  for (size_t l = 0; l < m.layers.size(); l++) windows.Set(static_cast<uint32_t>(l), m.layers[l].window);
  o.Set("windows", windows);
  o.Set("normedKeys",
        std::any_of(m.layers.begin(), m.layers.end(), [](const Layer& l) { return l.k_norm != nullptr; }));
  return o;
}
Napi::Value JsModel::bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(get(info.Env()).weight_bytes));
}
Napi::Value JsModel::isa(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), get(info.Env()).backend->name);
}
Napi::Value JsModel::stages(const Napi::CallbackInfo& info) {
  const std::vector<Placement>& stages = get(info.Env()).stages;
  Napi::Array out = Napi::Array::New(info.Env(), stages.size());
  for (size_t i = 0; i < stages.size(); i++) {
    Napi::Object stage = Napi::Object::New(info.Env());
    stage.Set("from", stages[i].from);
    stage.Set("to", stages[i].to);
    stage.Set("device", stages[i].device.queue ? stages[i].device.backend->name : "cpu");
    if (!stages[i].why.empty()) stage.Set("why", stages[i].why);
    out.Set(static_cast<uint32_t>(i), stage);
  }
  return out;
}
Napi::Value JsModel::fingerprint(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), get(info.Env()).fingerprint);
}

// Bytes of one cache row of one KV head, both sides.
Napi::Value JsModel::row_bytes(const Napi::CallbackInfo& info) {
  const Model& m = get(info.Env());
  const int size = m.config.head_size;
  const size_t keys = m.backend->page_bytes(kernels::Side::keys, need_dtype(info[0], "keys"), size),
               values = m.backend->page_bytes(kernels::Side::values, need_dtype(info[1], "values"), size);
  return Napi::Number::New(info.Env(), static_cast<double>(keys + values) / kernels::kPageRows);
}

Napi::Value JsModel::session(const Napi::CallbackInfo& info) {
  const SessionOptions options = session_options(info[0], get(info.Env()).config);
  return JsSession::make(info.Env(), guarded(info.Env(), [&] { return std::make_unique<Session>(model_, options); }));
}
Napi::Value JsModel::sampler(const Napi::CallbackInfo& info) {
  const Napi::Object o = need_object(info[0], "options");
  SamplerOptions options;
  options.temperature = static_cast<float>(need_number(o.Get("temperature"), "temperature"));
  options.top_k = need_int(o.Get("topK"), "topK", 0, 1 << 30);
  options.top_p = static_cast<float>(need_number(o.Get("topP"), "topP"));
  options.min_p = static_cast<float>(need_number(o.Get("minP"), "minP"));
  options.repeat_penalty = static_cast<float>(need_number(o.Get("repeatPenalty"), "repeatPenalty"));
  options.seed = static_cast<uint64_t>(need_number(o.Get("seed"), "seed"));
  const Napi::Object made = AddonData::of(info.Env()).sampler_class.New({});
  JsSampler::from(made)->sampler = std::make_shared<Sampler>(*get(info.Env()).backend, options);
  return made;
}

void JsModel::close(const Napi::CallbackInfo& info) {
  model_.reset();
  stage_.reset();
  trim_heap();
  int64_t& untold = AddonData::of(info.Env()).untold;
  const int64_t quiet = std::min(untold, bytes_);
  untold -= quiet;
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), quiet - bytes_);
  bytes_ = 0;
}

Napi::Function JsSampler::define(Napi::Env env) {
  return DefineClass(env, "Sampler", {InstanceAccessor<&JsSampler::kind>("kind")});
}
JsSampler::JsSampler(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsSampler>(info) {}
JsSampler* JsSampler::from(const Napi::Value& v) {
  const Napi::Object o = need_object(v, "sampler");
  if (!o.InstanceOf(AddonData::of(v.Env()).sampler_class.Value())) wrong(v.Env(), "sampler", "a sampler");
  return Unwrap(o);
}

}  // namespace tokensieve::addon
