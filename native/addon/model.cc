#include "addon/model.h"

#include <utility>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/worker.h"

namespace tokensieve::addon {

namespace {

Napi::Value to_value(Napi::Env env, const Value& value) {
  if (const bool* b = std::get_if<bool>(&value)) return Napi::Boolean::New(env, *b);
  if (const int64_t* i = std::get_if<int64_t>(&value)) return Napi::Number::New(env, static_cast<double>(*i));
  if (const uint64_t* u = std::get_if<uint64_t>(&value)) return Napi::Number::New(env, static_cast<double>(*u));
  if (const double* d = std::get_if<double>(&value)) return Napi::Number::New(env, *d);
  if (const std::string* s = std::get_if<std::string>(&value)) return Napi::String::New(env, *s);
  if (const auto* doubles = std::get_if<std::vector<double>>(&value)) return copy_array(env, *doubles);
  if (const auto* ints = std::get_if<std::vector<int64_t>>(&value)) {
    Napi::Float64Array out = Napi::Float64Array::New(env, ints->size());
    for (size_t i = 0; i < ints->size(); i++) out.Data()[i] = static_cast<double>((*ints)[i]);
    return out;
  }
  const std::vector<std::string> strings = std::get<Strings>(value).read();
  Napi::Array out = Napi::Array::New(env, strings.size());
  for (size_t i = 0; i < strings.size(); i++) {
    Napi::HandleScope scope(env);
    out.Set(static_cast<uint32_t>(i), Napi::String::New(env, strings[i]));
  }
  return out;
}

}  // namespace

Napi::Function JsModel::define(Napi::Env env) {
  return DefineClass(env, "Model",
                     {
                         InstanceAccessor<&JsModel::config>("config"),
                         InstanceAccessor<&JsModel::bytes>("bytes"),
                         InstanceAccessor<&JsModel::isa>("isa"),
                         InstanceAccessor<&JsModel::fingerprint>("fingerprint"),
                         InstanceMethod<&JsModel::metadata>("metadata"),
                         InstanceMethod<&JsModel::metadata_keys>("metadataKeys"),
                         InstanceMethod<&JsModel::tensors>("tensors"),
                         InstanceMethod<&JsModel::session>("session"),
                         InstanceMethod<&JsModel::restore>("restore"),
                         InstanceMethod<&JsModel::sampler>("sampler"),
                         InstanceMethod<&JsModel::advance>("advance"),
                         InstanceMethod<&JsModel::probe>("probe"),
                         InstanceMethod<&JsModel::probe_keys>("probeKeys"),
                         InstanceMethod<&JsModel::probe_rows>("probeRows"),
                         InstanceMethod<&JsModel::close>("close"),
                     });
}

JsModel::JsModel(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsModel>(info), busy_(std::make_shared<std::atomic<bool>>(false)) {
  if (info.Length() != 1 || !info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "Expected a model to be made by load");
  loaded_ = std::move(*info[0].As<Napi::External<Loaded>>().Data());
  stage_ = std::make_shared<Stage>(loaded_.model);
  reported_ = static_cast<int64_t>(loaded_.model->weight_bytes);
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), reported_);
}

JsModel::~JsModel() = default;

Napi::Object JsModel::make(Napi::Env env, Loaded loaded) {
  return AddonData::of(env).model_class.New({Napi::External<Loaded>::New(env, &loaded)});
}

const Loaded& JsModel::get(Napi::Env env) {
  if (!loaded_.model) throw to_js(env, Code::closed, "[model] expected an open model, this one was closed");
  return loaded_;
}

Napi::Value JsModel::config(const Napi::CallbackInfo& info) {
  const Model& m = *get(info.Env()).model;
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
  return o;
}
Napi::Value JsModel::bytes(const Napi::CallbackInfo& info) {
  Napi::Object o = Napi::Object::New(info.Env());
  o.Set("weights", static_cast<double>(get(info.Env()).model->weight_bytes));
  o.Set("mapped", static_cast<double>(get(info.Env()).weights->file_bytes()));
  return o;
}
Napi::Value JsModel::isa(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), get(info.Env()).model->backend->name); }
Napi::Value JsModel::fingerprint(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), get(info.Env()).model->fingerprint); }

Napi::Value JsModel::metadata(const Napi::CallbackInfo& info) {
  const auto& all = get(info.Env()).weights->metadata();
  const auto found = all.find(need_string(info[0], "key"));
  return found == all.end() ? info.Env().Undefined() : to_value(info.Env(), found->second);
}
Napi::Value JsModel::metadata_keys(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (const auto& entry : get(info.Env()).weights->metadata()) out.Set(out.Length(), entry.first);
  return out;
}
Napi::Value JsModel::tensors(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (const auto& entry : get(info.Env()).weights->tensors()) {
    Napi::Object o = Napi::Object::New(info.Env());
    o.Set("name", entry.first);
    o.Set("type", traits(entry.second.type).name);
    Napi::Array shape = Napi::Array::New(info.Env());
    for (int64_t d : entry.second.shape) shape.Set(shape.Length(), static_cast<double>(d));
    o.Set("shape", shape);
    out.Set(out.Length(), o);
  }
  return out;
}

Napi::Value JsModel::session(const Napi::CallbackInfo& info) {
  const Loaded& l = get(info.Env());
  const SessionOptions options = session_options(info[0], l.model->config);
  return JsSession::make(info.Env(), guarded(info.Env(), [&] { return std::make_unique<Session>(l.model, options); }));
}
Napi::Value JsModel::restore(const Napi::CallbackInfo& info) {
  const Loaded& l = get(info.Env());
  const SessionOptions options = session_options(info[0], l.model->config);
  const std::vector<uint8_t> saved = copy_of<uint8_t>(info[1], "saved");
  return JsSession::make(info.Env(), guarded(info.Env(), [&] { return Session::restore(l.model, options, saved.data(), saved.size()); }));
}
Napi::Value JsModel::sampler(const Napi::CallbackInfo& info) {
  const Loaded& l = get(info.Env());
  const Napi::Object o = need_object(info[0], "options");
  SamplerOptions options;
  options.temperature = static_cast<float>(need_number(o.Get("temperature"), "temperature"));
  options.top_k = need_int(o.Get("topK"), "topK", 0, 1 << 30);
  options.top_p = static_cast<float>(need_number(o.Get("topP"), "topP"));
  options.min_p = static_cast<float>(need_number(o.Get("minP"), "minP"));
  options.repeat_penalty = static_cast<float>(need_number(o.Get("repeatPenalty"), "repeatPenalty"));
  options.seed = static_cast<uint64_t>(need_number(o.Get("seed"), "seed"));
  const Napi::Object made = AddonData::of(info.Env()).sampler_class.New({});
  JsSampler::from(made)->sampler = std::make_shared<Sampler>(*l.model->backend, options);
  return made;
}

void JsModel::close(const Napi::CallbackInfo& info) {
  loaded_ = {};
  stage_.reset();
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), -reported_);
  reported_ = 0;
}

Napi::Function JsSampler::define(Napi::Env env) { return DefineClass(env, "Sampler", {InstanceAccessor<&JsSampler::kind>("kind")}); }
JsSampler::JsSampler(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsSampler>(info) {}
JsSampler* JsSampler::from(const Napi::Value& v) {
  const Napi::Object o = need_object(v, "sampler");
  if (!o.InstanceOf(AddonData::of(v.Env()).sampler_class.Value())) wrong(v.Env(), "sampler", "a sampler");
  return Unwrap(o);
}

}  // namespace tokensieve::addon
