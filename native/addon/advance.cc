// Stage calls and probes: what runs off the event loop for a loaded model.
#include <utility>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/model.h"
#include "addon/worker.h"
#include "core/trace.h"

namespace tokensieve::addon {

namespace {

// Everything that a stage call needs, held until it is over.
struct Batch {
  std::vector<StageEntry> entries;
  std::vector<std::shared_ptr<Session>> sessions;
  std::vector<std::shared_ptr<Sampler>> samplers;
  std::vector<Napi::Object> objects;
  int from = 0, to = 0;
};

HeadWish read_head(const Napi::Value& v, Batch& batch) {
  HeadWish wish;
  if (!v.IsObject()) return wish;
  const Napi::Object o = v.As<Napi::Object>();
  const std::string logits = need_string(o.Get("logits"), "logits");
  if (logits == "last") wish.logits = HeadWish::Logits::last;
  if (logits == "all") wish.logits = HeadWish::Logits::all;
  if (logits == "scores") wish.logits = HeadWish::Logits::scores;
  if (o.Get("sampler").IsObject()) {
    batch.samplers.push_back(JsSampler::from(o.Get("sampler"))->sampler);
    wish.sampler = batch.samplers.back().get();
  }
  if (o.Get("recent").IsTypedArray()) wish.recent = copy_of<int32_t>(o.Get("recent"), "recent");
  wish.logprob = is_true(o.Get("logprob"));
  return wish;
}

std::shared_ptr<Batch> read_batch(const Napi::Value& v, int layers) {
  if (!v.IsArray() || v.As<Napi::Array>().Length() == 0) wrong(v.Env(), "batch", "a filled array");
  auto batch = std::make_shared<Batch>();
  const Napi::Array list = v.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Object o = need_object(list.Get(i), "entry");
    const Napi::Object object = need_object(o.Get("session"), "session");
    JsSession* js = JsSession::from(object);
    batch->sessions.push_back(js->share(v.Env()));
    batch->objects.push_back(object);
    Session& s = *batch->sessions.back();
    if (!s.running()) wrong(v.Env(), "session", "a session with a call under way");
    StageEntry e;
    e.session = &s;
    const int rows = static_cast<int>(s.rows().source.size());
    e.begin = need_int(o.Get("begin"), "begin", 0, rows - 1);
    e.end = need_int(o.Get("end"), "end", e.begin + 1, std::min(rows, e.begin + kStageRows));
    const int from = need_int(o.Get("from"), "from", 0, layers - 1), to = need_int(o.Get("to"), "to", from, layers);
    if (i > 0 && (from != batch->from || to != batch->to)) wrong(v.Env(), "batch", "the same layers for every entry");
    for (uint32_t j = 0; j < i; j++) {
      if (batch->sessions[j] == batch->sessions[i]) wrong(v.Env(), "batch", "every session once");
    }
    batch->from = from, batch->to = to;
    e.head = read_head(o.Get("head"), *batch);
    batch->entries.push_back(std::move(e));
  }
  return batch;
}

Napi::Value result(Napi::Env env, const StageEntry& e) {
  Napi::Object o = Napi::Object::New(env);
  if (e.error) {
    o.Set("error", to_js(env, e.error->code(), e.error->what()).Value());
    return o;
  }
  if (!e.logits.empty()) o.Set("logits", copy_array(env, e.logits));
  if (e.token >= 0) o.Set("token", e.token);
  if (e.head.logprob) o.Set("logprob", e.logprob);
  return o;
}

Napi::Value results(Napi::Env env, Batch& batch) {
  Napi::Array out = Napi::Array::New(env, batch.entries.size());
  for (size_t i = 0; i < batch.entries.size(); i++) out.Set(static_cast<uint32_t>(i), result(env, batch.entries[i]));
  return out;
}

}  // namespace

// Places in the rows of the session's call.
static std::vector<int32_t> need_places(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const Session& s = JsSession::from(info[0])->get(info.Env());
  if (!s.running()) wrong(info.Env(), "session", "a session with a call under way");
  std::vector<int32_t> places = copy_of<int32_t>(info[index], name);
  for (int32_t place : places) {
    if (place < 0 || static_cast<size_t>(place) >= s.rows().source.size())
      wrong(info.Env(), name, "places in the call's rows");
  }
  return places;
}

// Marks the model and the sessions as at work, and the work as something that an ending thread stops.
struct Work {
  Work(Napi::Env env, std::shared_ptr<std::atomic<bool>> model_busy, const std::vector<Napi::Object>& objects,
       const std::vector<std::shared_ptr<Session>>& all)
      : running(AddonData::of(env).running), busy(std::move(model_busy)), sessions(all) {
    *busy = true;
    for (const Napi::Object& o : objects) js.push_back(JsSession::from(o)), js.back()->set_busy(true);
    for (const auto& s : sessions) running->stops.insert(&s->stop());
  }
  void done() {
    for (const auto& s : sessions) running->stops.erase(&s->stop());
    *busy = false;
    if (running->ending) return;  // the objects may be gone
    for (JsSession* s : js) s->set_busy(false), s->report();
  }
  std::shared_ptr<Running> running;
  std::shared_ptr<std::atomic<bool>> busy;
  std::vector<std::shared_ptr<Session>> sessions;
  std::vector<JsSession*> js;
};

Napi::Env JsModel::begin_work(const Napi::CallbackInfo& info) {
  get(info.Env());
  if (*busy_) throw to_js(info.Env(), Code::internal, "[model] expected one stage call at a time");
  return info.Env();
}

Napi::Value JsModel::advance(const Napi::CallbackInfo& info) {
  const Napi::Env env = begin_work(info);
  std::shared_ptr<Batch> batch = read_batch(info[0], model_->config.layers);
  auto work = std::make_shared<Work>(env, busy_, batch->objects, batch->sessions);
  std::vector<Napi::Object> keep = batch->objects;
  batch->objects.clear();  // handles of this call only: the worker holds references
  auto* worker = new PromiseWorker<int>(
      env,
      [batch, stage = stage_] {
        const trace::Span span(trace::Kind::call, "stage");
        return stage->advance(batch->entries, batch->from, batch->to), 0;
      },
      [batch](Napi::Env e, int&) { return results(e, *batch); }, std::move(keep), [work] { work->done(); });
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

template <class Result>
Napi::Value JsModel::work_on(const Napi::CallbackInfo& info, std::function<Result(Stage&, Session&)> f,
                             std::function<Napi::Value(Napi::Env, Result&)> finish) {
  const Napi::Env env = begin_work(info);
  const Napi::Object object = need_object(info[0], "session");
  std::shared_ptr<Session> session = JsSession::from(object)->share(env);
  auto work = std::make_shared<Work>(env, busy_, std::vector<Napi::Object>{object},
                                     std::vector<std::shared_ptr<Session>>{session});
  auto* worker = new PromiseWorker<Result>(
      env,
      [stage = stage_, session, f = std::move(f)] {
        const trace::Span span(trace::Kind::call, "session");
        return f(*stage, *session);
      },
      std::move(finish), {object}, [work] { work->done(); });
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

namespace {

// { folds: [{ from, into, weights } a head], keys, sizes } of an eviction; empty where there are none.
Folds read_folds(const Napi::Object& action) {
  Folds folds;
  if (!action.Get("folds").IsArray()) return folds;
  const Napi::Array heads = action.Get("folds").As<Napi::Array>();
  for (uint32_t h = 0; h < heads.Length(); h++) {
    const Napi::Object o = need_object(heads.Get(h), "folds");
    folds.heads.push_back({copy_of<int32_t>(o.Get("from"), "from"), copy_of<int32_t>(o.Get("into"), "into"),
                           copy_of<float>(o.Get("weights"), "weights")});
  }
  folds.keys = is_true(action.Get("keys"));
  folds.sizes = is_true(action.Get("sizes"));
  return folds;
}

using Change = std::function<void(Session&)>;

// { coarse: [{ layer, sources: [rows a head] }] }: all layers at once.
Change read_coarsening(const Napi::Object& o, int layers) {
  if (!o.Get("coarse").IsArray()) wrong(o.Env(), "coarse", "an array");
  const Napi::Array list = o.Get("coarse").As<Napi::Array>();
  std::vector<Session::Coarsening> all;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Object one = need_object(list.Get(i), "coarse");
    if (!one.Get("sources").IsArray()) wrong(o.Env(), "sources", "an array");
    const Napi::Array heads = one.Get("sources").As<Napi::Array>();
    all.push_back({need_int(one.Get("layer"), "layer", 0, layers - 1), {}});
    for (uint32_t h = 0; h < heads.Length(); h++)
      all.back().sources.push_back(copy_of<int32_t>(heads.Get(h), "sources"));
  }
  return [all = std::move(all)](Session& s) { s.coarsen(all); };
}

// { drop, repack } | { merge, repack } | { pass, mlp, weights } | { coarse } | { commit: true }
Change read_change(const Napi::Object& o, int layers) {
  const bool repack = is_true(o.Get("repack"));
  if (o.Has("drop"))
    return [kept = copy_of<int32_t>(o.Get("drop"), "drop"), repack](Session& s) { s.drop(kept, repack); };
  if (o.Has("merge"))
    return [into = copy_of<int32_t>(o.Get("merge"), "merge"), repack](Session& s) { s.merge(into, repack); };
  if (o.Has("coarse")) return read_coarsening(o, layers);
  if (!o.Has("pass")) return [](Session& s) { s.commit(); };
  std::vector<float> weights;
  if (!o.Get("weights").IsUndefined()) weights = copy_of<float>(o.Get("weights"), "weights");
  return [kept = copy_of<int32_t>(o.Get("pass"), "pass"), mlp = is_true(o.Get("mlp")),
          weights = std::move(weights)](Session& s) { s.pass(kept, mlp, weights); };
}

// { layer, evict: [rows a head], folds, stored: [rows a head] }
Session::Eviction read_eviction(const Napi::Object& o, int layer) {
  if (!o.Get("evict").IsArray()) wrong(o.Env(), "evict", "an array");
  const Napi::Array heads = o.Get("evict").As<Napi::Array>();
  Session::Eviction eviction{layer, {}, read_folds(o), {}};
  for (uint32_t h = 0; h < heads.Length(); h++) eviction.kept.push_back(copy_of<int32_t>(heads.Get(h), "evict"));
  if (!o.Get("stored").IsArray()) return eviction;
  const Napi::Array aside = o.Get("stored").As<Napi::Array>();
  for (uint32_t h = 0; h < aside.Length(); h++) eviction.stored.push_back(copy_of<int32_t>(aside.Get(h), "stored"));
  return eviction;
}

}  // namespace

// Decisions of methods, in order.
Napi::Value JsModel::apply(const Napi::CallbackInfo& info) {
  if (!info[1].IsArray()) wrong(info.Env(), "actions", "an array");
  const Napi::Array list = info[1].As<Napi::Array>();
  auto actions = std::make_shared<std::vector<Change>>();
  std::vector<Session::Eviction> evictions;  // of different layers, gathered into one
  const auto flush = [&] {
    if (evictions.empty()) return;
    actions->push_back([all = std::move(evictions)](Session& s) { s.evict(all); });
    evictions.clear();
  };
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Object o = need_object(list.Get(i), "action");
    if (!o.Has("evict")) {
      flush();
      actions->push_back(read_change(o, get(info.Env()).config.layers));
      continue;
    }
    const int layer = need_int(o.Get("layer"), "layer", 0, get(info.Env()).config.layers - 1);
    for (const Session::Eviction& e : evictions) {
      if (e.layer != layer) continue;
      flush();
      break;
    }
    evictions.push_back(read_eviction(o, layer));
  }
  flush();
  return work_on<int>(
      info,
      [actions](Stage&, Session& s) {
        for (const auto& action : *actions) action(s);
        return 0;
      },
      [](Napi::Env env, int&) { return env.Undefined(); });
}

Napi::Value JsModel::speak(const Napi::CallbackInfo& info) {
  auto batch = std::make_shared<Batch>();
  batch->entries.emplace_back();
  batch->entries[0].head = read_head(info[1], *batch);
  return work_on<int>(
      info,
      [batch](Stage& stage, Session& s) {
        batch->entries[0].session = &s;
        stage.speak(batch->entries[0]);
        return 0;
      },
      [batch](Napi::Env env, int&) { return result(env, batch->entries[0]); });
}

Napi::Value JsModel::save(const Napi::CallbackInfo& info) {
  return work_on<std::string>(
      info, [](Stage&, Session& s) { return s.save(); },
      [](Napi::Env env, std::string& bytes) -> Napi::Value {
        return copy_array(env, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
      });
}

Napi::Value JsModel::restore(const Napi::CallbackInfo& info) {
  const SessionOptions options = session_options(info[0], get(info.Env()).config);
  auto saved = std::make_shared<std::vector<uint8_t>>(copy_of<uint8_t>(info[1], "saved"));
  auto* worker = new PromiseWorker<std::unique_ptr<Session>>(
      info.Env(),
      [model = model_, options, saved] { return Session::restore(model, options, saved->data(), saved->size()); },
      [](Napi::Env env, std::unique_ptr<Session>& s) -> Napi::Value { return JsSession::make(env, std::move(s)); }, {});
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

Napi::Value JsModel::look(const Napi::CallbackInfo& info, std::function<std::vector<float>(Stage&, Session&)> f) {
  if (!JsSession::from(info[0])->get(info.Env()).running())
    wrong(info.Env(), "session", "a session with a call under way");
  return work_on<std::vector<float>>(
      info, std::move(f), [](Napi::Env env, std::vector<float>& v) -> Napi::Value { return copy_array(env, v); });
}

Napi::Value JsModel::probe(const Napi::CallbackInfo& info) {
  const int layer = need_int(info[1], "layer", 0, get(info.Env()).config.layers - 1),
            rows = need_int(info[2], "rows", 1, 1 << 30);
  return look(info, [=](Stage& stage, Session& s) { return stage.probe(s, layer, rows); });
}
Napi::Value JsModel::probe_keys(const Napi::CallbackInfo& info) {
  const int layer = need_int(info[1], "layer", 0, get(info.Env()).config.layers - 1);
  return look(info, [=](Stage& stage, Session& s) { return stage.probe_keys(s, layer); });
}
static Napi::Value partners_of(Napi::Env env, const Stage::Partners& found) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("partner", copy_array(env, found.partner));
  o.Set("similarity", copy_array(env, found.similarity));
  return o;
}
Napi::Value JsModel::probe_partners(const Napi::CallbackInfo& info) {
  const int layer = need_int(info[1], "layer", 0, get(info.Env()).config.layers - 1);
  std::vector<int32_t> places = need_places(info, 2, "places");
  if (places.size() < 2) wrong(info.Env(), "places", "two places at least");
  return work_on<Stage::Partners>(
      info,
      [layer, places = std::move(places)](Stage& stage, Session& s) { return stage.probe_partners(s, layer, places); },
      [](Napi::Env env, Stage::Partners& found) { return partners_of(env, found); });
}
// match(session, [{ layer, heads: [{ from, into }] }]): [{ partner, similarity } a head] a layer
Napi::Value JsModel::match(const Napi::CallbackInfo& info) {
  if (!info[1].IsArray()) wrong(info.Env(), "wanted", "an array");
  const Napi::Array list = info[1].As<Napi::Array>();
  const Config& config = get(info.Env()).config;
  std::vector<std::pair<int, std::vector<Stage::Match>>> wanted;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Object o = need_object(list.Get(i), "wanted");
    const Napi::Array heads = need_object(o.Get("heads"), "heads").As<Napi::Array>();
    if (!heads.IsArray() || heads.Length() != static_cast<uint32_t>(config.kv_heads))
      wrong(info.Env(), "heads", "an entry for each KV head");
    wanted.emplace_back(need_int(o.Get("layer"), "layer", 0, config.layers - 1), std::vector<Stage::Match>());
    for (uint32_t h = 0; h < heads.Length(); h++) {
      const Napi::Object head = need_object(heads.Get(h), "heads");
      wanted.back().second.push_back(
          {copy_of<int32_t>(head.Get("from"), "from"), copy_of<int32_t>(head.Get("into"), "into")});
    }
  }
  using Found = std::vector<std::vector<Stage::Partners>>;
  return work_on<Found>(
      info,
      [wanted = std::move(wanted)](Stage& stage, Session& s) {
        Found found;
        for (const auto& [layer, heads] : wanted) {
          found.emplace_back();
          for (size_t h = 0; h < heads.size(); h++)
            found.back().push_back(stage.match(s, layer, static_cast<int>(h), heads[h]));
        }
        return found;
      },
      [](Napi::Env env, Found& found) -> Napi::Value {
        Napi::Array layers = Napi::Array::New(env, found.size());
        for (uint32_t l = 0; l < found.size(); l++) {
          Napi::Array heads = Napi::Array::New(env, found[l].size());
          for (uint32_t h = 0; h < found[l].size(); h++) heads.Set(h, partners_of(env, found[l][h]));
          layers.Set(l, heads);
        }
        return layers;
      });
}
Napi::Value JsModel::probe_rows(const Napi::CallbackInfo& info) {
  const int layer = need_int(info[1], "layer", 0, get(info.Env()).config.layers - 1);
  std::vector<int32_t> rows = need_places(info, 2, "rows");
  return look(info,
              [layer, rows = std::move(rows)](Stage& stage, Session& s) { return stage.probe_rows(s, layer, rows); });
}
Napi::Value JsModel::probe_means(const Napi::CallbackInfo& info) {
  const int layer = need_int(info[1], "layer", 0, get(info.Env()).config.layers - 1);
  std::vector<int32_t> rows = need_places(info, 2, "rows");
  return look(info,
              [layer, rows = std::move(rows)](Stage& stage, Session& s) { return stage.probe_means(s, layer, rows); });
}
Napi::Value JsModel::probe_rank(const Napi::CallbackInfo& info) {
  const int layer = need_int(info[1], "layer", 0, get(info.Env()).config.layers - 1),
            rounds = need_int(info[3], "rounds", 1, 1000);
  const float temperature = static_cast<float>(need_number(info[2], "temperature"));
  if (!(temperature >= 1e-3f && temperature <= 1e3f)) wrong(info.Env(), "temperature", "a number from 0.001 to 1000");
  return look(info, [=](Stage& stage, Session& s) { return stage.probe_rank(s, layer, temperature, rounds); });
}

}  // namespace tokensieve::addon
