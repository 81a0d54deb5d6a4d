#include "addon/session.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/worker.h"

namespace tokensieve::addon {

namespace {

Rule read_rule(const Napi::Value& v) {
  Rule rule;
  if (v.IsNull() || v.IsUndefined()) return rule;
  const Napi::Object o = need_object(v, "rule");
  const std::string kind = need_string(o.Get("kind"), "kind");
  if (kind != "window" && kind != "mass") wrong(v.Env(), "kind", "'window' or 'mass'");
  rule.kind = kind == "window" ? Rule::Kind::window : Rule::Kind::mass;
  if (rule.kind == Rule::Kind::window) rule.sinks = need_int(o.Get("sinks"), "sinks", 0, 1 << 30);
  if (rule.kind == Rule::Kind::mass) rule.recent = need_number(o.Get("recent"), "recent");
  if (o.Get("tokens").IsNumber()) rule.tokens = need_int(o.Get("tokens"), "tokens", 0, 1 << 30);
  if (o.Get("share").IsNumber()) rule.share = need_number(o.Get("share"), "share");
  if (o.Get("maxDropped").IsNumber()) rule.max_dropped = need_number(o.Get("maxDropped"), "maxDropped");
  if (!(rule.max_dropped >= 0 && rule.max_dropped <= 1)) wrong(v.Env(), "maxDropped", "a share from 0 to 1");
  if (!(rule.recent >= 0 && rule.recent <= 1) || !(rule.share >= 0 && rule.share <= 1) ||
      (rule.tokens == 0 && rule.share == 0))
    wrong(v.Env(), "rule", "a budget and shares from 0 to 1");
  return rule;
}

std::vector<Look> read_looks(const Napi::Value& v, int layers) {
  std::vector<Look> looks;
  if (v.IsUndefined()) return looks;
  if (!v.IsArray()) wrong(v.Env(), "looks", "an array");
  const Napi::Array list = v.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Object o = need_object(list.Get(i), "look");
    Look look;
    look.layer = need_int(o.Get("layer"), "layer", 0, layers - 1);
    look.column_sums = is_true(o.Get("columnSums"));
    if (!o.Get("unsummed").IsUndefined()) look.unsummed = copy_of<int32_t>(o.Get("unsummed"), "unsummed");
    look.key_norms = is_true(o.Get("keyNorms"));
    if (o.Get("attention").IsObject())
      look.attention_rows = need_int(o.Get("attention").As<Napi::Object>().Get("rows"), "rows", 1, 1 << 30);
    if (o.Get("expected").IsObject()) {
      const Napi::Object expected = o.Get("expected").As<Napi::Object>();
      look.ahead = need_int(expected.Get("ahead"), "ahead", 1, 1 << 20);
      look.skip = need_int(expected.Get("skip"), "skip", 0, 1 << 30);
    }
    looks.push_back(look);
  }
  return looks;
}

Features read_features(const Napi::Value& v) {
  if (v.IsUndefined()) return {};
  const Napi::Object o = need_object(v, "features");
  return {copy_of<int32_t>(o.Get("places"), "places"), copy_of<float>(o.Get("rows"), "rows")};
}

HeadKv read_head_kv(const Napi::Value& v) {
  const Napi::Object o = need_object(v, "kv");
  HeadKv kv;
  kv.keys = need_dtype(o.Get("keys"), "keys");
  kv.values = need_dtype(o.Get("values"), "values");
  kv.in_float.sinks = need_int(o.Get("sinks"), "sinks", 0, 1 << 20);
  kv.in_float.recent = need_int(o.Get("recent"), "recent", 0, 1 << 20);
  kv.in_float.residual = need_int(o.Get("residual"), "residual", 0, 1 << 20);
  if (!o.Get("fresh").IsUndefined()) kv.in_float.fresh = need_dtype(o.Get("fresh"), "fresh");
  kv.hadamard_keys = is_true(o.Get("hadamardKeys"));
  kv.hadamard_values = is_true(o.Get("hadamardValues"));
  return kv;
}

SessionOptions::Fine read_fine(const Napi::Value& v) {
  if (v.IsUndefined()) return SessionOptions::Fine::none;
  const std::string where = need_string(v, "fine");
  if (where != "prompts" && where != "all") wrong(v.Env(), "fine", "'prompts' or 'all'");
  return where == "all" ? SessionOptions::Fine::all : SessionOptions::Fine::prompts;
}

// One for all heads, or one a head.
std::vector<HeadKv> read_kv(const Napi::Object& o, const Config& config) {
  if (!o.Get("kv").IsArray()) wrong(o.Env(), "kv", "an array");
  const Napi::Array list = o.Get("kv").As<Napi::Array>();
  std::vector<HeadKv> kinds;
  for (uint32_t i = 0; i < list.Length(); i++) kinds.push_back(read_head_kv(list.Get(i)));
  const std::vector<int32_t> of = copy_of<int32_t>(o.Get("kvOf"), "kvOf");
  const size_t heads = static_cast<size_t>(config.layers) * static_cast<size_t>(config.kv_heads);
  const auto known = [&](int32_t i) { return i >= 0 && static_cast<size_t>(i) < kinds.size(); };
  if (kinds.empty() || !(of.empty() || of.size() == heads) || !std::all_of(of.begin(), of.end(), known))
    wrong(o.Env(), "kvOf", "one of kv for every head");
  if (of.empty()) kinds.resize(1);
  if (of.empty()) return kinds;
  std::vector<HeadKv> kv;
  for (int32_t i : of) kv.push_back(kinds[static_cast<size_t>(i)]);
  return kv;
}

}  // namespace

SessionOptions session_options(const Napi::Value& v, const Config& config) {
  const Napi::Object o = need_object(v, "options");
  SessionOptions options;
  options.context_length = need_int(o.Get("contextLength"), "contextLength", 1, 1 << 30);
  options.kv = read_kv(o, config);
  options.repack = is_true(o.Get("repack"));
  options.fine = read_fine(o.Get("fine"));
  options.skip_attention.assign(static_cast<size_t>(config.layers), 0);
  options.skip_mlp = options.skip_attention;
  for (int32_t l : copy_of<int32_t>(o.Get("skipAttention"), "skipAttention"))
    options.skip_attention.at(static_cast<size_t>(l)) = 1;
  for (int32_t l : copy_of<int32_t>(o.Get("skipMlp"), "skipMlp")) options.skip_mlp.at(static_cast<size_t>(l)) = 1;
  if (!o.Get("skipHeads").IsUndefined()) {
    options.skip_heads.assign(static_cast<size_t>(config.layers * config.heads), 0);
    for (int32_t h : copy_of<int32_t>(o.Get("skipHeads"), "skipHeads"))
      options.skip_heads.at(static_cast<size_t>(h)) = 1;
  }
  return options;
}

Napi::Function JsSession::define(Napi::Env env) {
  return DefineClass(env, "Session",
                     {
                         InstanceMethod<&JsSession::begin>("begin"),
                         InstanceMethod<&JsSession::peek>("peek"),
                         InstanceMethod<&JsSession::knows_last>("knowsLast"),
                         InstanceMethod<&JsSession::rows>("rows"),
                         InstanceMethod<&JsSession::hidden>("hidden"),
                         InstanceMethod<&JsSession::attention>("attention"),
                         InstanceMethod<&JsSession::expected>("expected"),
                         InstanceMethod<&JsSession::commit>("commit"),
                         InstanceMethod<&JsSession::rollback>("rollback"),
                         InstanceMethod<&JsSession::interrupt>("interrupt"),
                         InstanceMethod<&JsSession::live_rows>("liveRows"),
                         InstanceMethod<&JsSession::cache_rows>("cacheRows"),
                         InstanceMethod<&JsSession::cache_sources>("cacheSources"),
                         InstanceMethod<&JsSession::cache_mass>("cacheMass"),
                         InstanceMethod<&JsSession::cache_dropped>("cacheDropped"),
                         InstanceMethod<&JsSession::cache_keys>("cacheKeys"),
                         InstanceMethod<&JsSession::cache_values>("cacheValues"),
                         InstanceMethod<&JsSession::cache_key_norms>("cacheKeyNorms"),
                         InstanceMethod<&JsSession::stored_sources>("storedSources"),
                         InstanceMethod<&JsSession::stored_values>("storedValues"),
                         InstanceMethod<&JsSession::set_rule>("setRule"),
                         InstanceMethod<&JsSession::truncate>("truncate"),
                         InstanceMethod<&JsSession::reset>("reset"),
                         InstanceMethod<&JsSession::fork>("fork"),
                         InstanceMethod<&JsSession::first_rows>("firstRows"),
                         InstanceMethod<&JsSession::take>("take"),
                         InstanceMethod<&JsSession::give_back>("giveBack"),
                         InstanceMethod<&JsSession::stats>("stats"),
                         InstanceMethod<&JsSession::close>("close"),
                     });
}

JsSession::JsSession(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsSession>(info) {
  if (info.Length() != 1 || !info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "Expected a session to be made by model.session");
  session_ = std::shared_ptr<Session>(info[0].As<Napi::External<std::unique_ptr<Session>>>().Data()->release());
}

JsSession::~JsSession() {
  if (session_) session_->stop() = true;  // what still runs holds its own share
}

Napi::Object JsSession::make(Napi::Env env, std::unique_ptr<Session> session) {
  const Napi::Object object =
      AddonData::of(env).session_class.New({Napi::External<std::unique_ptr<Session>>::New(env, &session)});
  Unwrap(object)->report();
  return object;
}

JsSession* JsSession::from(const Napi::Value& v) {
  const Napi::Object o = need_object(v, "session");
  if (!o.InstanceOf(AddonData::of(v.Env()).session_class.Value())) wrong(v.Env(), "session", "a session");
  return Unwrap(o);
}

Session& JsSession::get(Napi::Env env) {
  if (!session_) throw to_js(env, Code::closed, "[session] expected an open session, this one was closed");
  return *session_;
}
std::shared_ptr<Session> JsSession::share(Napi::Env env) {
  idle(env);
  return session_;
}
Session& JsSession::idle(Napi::Env env) {
  Session& s = get(env);
  if (busy_) throw to_js(env, Code::internal, "[session] expected no stage call to be under way");
  return s;
}

void JsSession::report() {
  const int64_t now = session_ ? static_cast<int64_t>(session_->cache().bytes()) : 0;
  Napi::MemoryManagement::AdjustExternalMemory(Env(), now - reported_);
  reported_ = now;
  most_ = std::max(most_, now);
}

int JsSession::layer(const Napi::Value& v) { return need_int(v, "layer", 0, idle(v.Env()).model().config.layers - 1); }
int JsSession::head(const Napi::Value& v) { return need_int(v, "head", 0, idle(v.Env()).model().config.kv_heads - 1); }

void JsSession::begin(const Napi::CallbackInfo& info) {
  Session& s = idle(info.Env());
  std::vector<Look> looks = read_looks(info[1], s.model().config.layers);
  const Features features = read_features(info[2]);
  guarded(info.Env(), [&] { s.begin(copy_of<int32_t>(info[0], "ids"), looks, features); });
}
void JsSession::peek(const Napi::CallbackInfo& info) {
  Session& s = idle(info.Env());
  const Features features = read_features(info[1]);
  guarded(info.Env(), [&] { s.begin(copy_of<int32_t>(info[0], "ids"), {}, features, true); });
}
Napi::Value JsSession::knows_last(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), !idle(info.Env()).last_hidden().empty());
}
Napi::Value JsSession::rows(const Napi::CallbackInfo& info) {
  return copy_array(info.Env(), idle(info.Env()).rows().source);
}
Napi::Value JsSession::hidden(const Napi::CallbackInfo& info) {
  Session& s = idle(info.Env());
  return copy_array(info.Env(), s.rows().hidden.as<float>(),
                    s.rows().source.size() * static_cast<size_t>(s.model().config.hidden));
}
Napi::Value JsSession::attention(const Napi::CallbackInfo& info) {
  return copy_array(info.Env(), idle(info.Env()).attention(layer(info[0]), head(info[1])));
}
Napi::Value JsSession::expected(const Napi::CallbackInfo& info) {
  return copy_array(info.Env(), idle(info.Env()).expected(layer(info[0]), head(info[1])));
}
void JsSession::commit(const Napi::CallbackInfo& info) {
  Session& s = idle(info.Env());
  guarded(info.Env(), [&] { s.commit(); });
  report();
}
void JsSession::rollback(const Napi::CallbackInfo& info) {
  idle(info.Env()).rollback();
  report();
}
void JsSession::interrupt(const Napi::CallbackInfo&) {
  if (session_) session_->stop() = true;
}

Napi::Value JsSession::live_rows(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), get(info.Env()).live_rows());
}
Napi::Value JsSession::cache_rows(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), idle(info.Env()).cache().rows(layer(info[0]), head(info[1])));
}
Napi::Value JsSession::cache_sources(const Napi::CallbackInfo& info) {
  return copy_array(info.Env(), idle(info.Env()).sources(layer(info[0]), head(info[1])));
}
Napi::Value JsSession::cache_dropped(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), idle(info.Env()).cache().head(layer(info[0]), head(info[1])).dropped);
}

Napi::Value JsSession::cache_mass(const Napi::CallbackInfo& info) {
  return copy_array(info.Env(), idle(info.Env()).mass(layer(info[0]), head(info[1])));
}
Napi::Float32Array JsSession::cache_side(const Napi::CallbackInfo& info, kernels::Side side) {
  Session& s = idle(info.Env());
  const int l = layer(info[0]), h = head(info[1]);
  Napi::Float32Array out = Napi::Float32Array::New(
      info.Env(), static_cast<size_t>(s.cache().rows(l, h)) * static_cast<size_t>(s.model().config.head_size));
  s.read(side, l, h, out.Data());
  return out;
}
Napi::Value JsSession::cache_keys(const Napi::CallbackInfo& info) { return cache_side(info, kernels::Side::keys); }
Napi::Value JsSession::cache_values(const Napi::CallbackInfo& info) { return cache_side(info, kernels::Side::values); }
Napi::Value JsSession::cache_key_norms(const Napi::CallbackInfo& info) {
  return copy_array(info.Env(), idle(info.Env()).key_norms(layer(info[0]), head(info[1])));
}

Napi::Value JsSession::stored_sources(const Napi::CallbackInfo& info) {
  return copy_array(info.Env(), idle(info.Env()).cache().stored(layer(info[0]), head(info[1])).all());
}
Napi::Value JsSession::stored_values(const Napi::CallbackInfo& info) {
  Session& s = idle(info.Env());
  const int l = layer(info[0]), h = head(info[1]);
  Napi::Float32Array out = Napi::Float32Array::New(
      info.Env(), s.cache().stored(l, h).size() * static_cast<size_t>(s.model().config.head_size));
  s.read_stored(kernels::Side::values, l, h, out.Data());
  return out;
}

void JsSession::set_rule(const Napi::CallbackInfo& info) {
  Session& s = idle(info.Env());
  guarded(info.Env(), [&] { s.set_rule(layer(info[0]), read_rule(info[1])); });
}
void JsSession::truncate(const Napi::CallbackInfo& info) {
  Session& s = idle(info.Env());
  guarded(info.Env(), [&] { s.truncate(need_int(info[0], "tokens", 0, 1 << 30)); });
  report();
}
void JsSession::reset(const Napi::CallbackInfo& info) {
  Session& s = idle(info.Env());
  guarded(info.Env(), [&] { s.reset(); });
  most_ = 0;
  report();
}
Napi::Value JsSession::fork(const Napi::CallbackInfo& info) {
  Session& s = idle(info.Env());
  return make(info.Env(), guarded(info.Env(), [&] { return s.fork(); }));
}
Napi::Value JsSession::first_rows(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), idle(info.Env()).first_rows());
}
void JsSession::take(const Napi::CallbackInfo& info) {
  Session& s = idle(info.Env());
  const Session& from = JsSession::from(info[0])->idle(info.Env());
  guarded(info.Env(), [&] { s.take(from, need_int(info[1], "tokens", 0, 1 << 30)); });
  report();
}
void JsSession::give_back(const Napi::CallbackInfo& info) {
  Session& s = get(info.Env());
  if (!busy_ && !s.running()) s.cache().give_back();  // a call has reserved what it will fill
}
void JsSession::close(const Napi::CallbackInfo&) {
  if (session_) session_->stop() = true;
  session_.reset();
  report();
}

// Live: these counts may be read while a stage call runs.
Napi::Value JsSession::stats(const Napi::CallbackInfo& info) {
  const Session& s = get(info.Env());
  const Config& c = s.model().config;
  Napi::Object out = Napi::Object::New(info.Env());
  Napi::Array layers = Napi::Array::New(info.Env(), static_cast<size_t>(c.layers));
  for (int l = 0; l < c.layers; l++) {
    Napi::Array rows = Napi::Array::New(info.Env(), static_cast<size_t>(c.kv_heads));
    for (int h = 0; h < c.kv_heads; h++) rows.Set(static_cast<uint32_t>(h), s.cache().rows(l, h));
    Napi::Object layer = Napi::Object::New(info.Env());
    layer.Set("rows", rows);
    layer.Set("bytes", static_cast<double>(s.cache().layer_bytes(l)));
    layers.Set(static_cast<uint32_t>(l), layer);
  }
  out.Set("bytes", static_cast<double>(s.cache().bytes()));
  out.Set("peakBytes", static_cast<double>(most_));
  out.Set("storedBytes", static_cast<double>(s.cache().stored_bytes()));
  out.Set("layers", layers);
  return out;
}

}  // namespace tokensieve::addon
