#include "engine/stage.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/trace.h"
#include "engine/block.h"

namespace tokensieve {

namespace {

double frequency(const Rotary& r, int i, int length) {
  double base = r.base;
  if (r.dynamic > 0 && length > r.trained) {  // NTK: the base grows with the text
    base *=
        std::pow(r.dynamic * length / r.trained - (r.dynamic - 1), static_cast<double>(r.rotated) / (r.rotated - 2));
  }
  const double f = 1 / (std::pow(base, 2.0 * i / r.rotated) * r.linear);
  return r.factors.empty() ? f : f / static_cast<double>(r.factors[static_cast<size_t>(i)]);
}

}  // namespace

const Stage::Angles& Stage::angles(int rotary, const std::vector<int32_t>& position, int length) {
  angles_.resize(model_->rotaries.size());
  Angles& a = angles_[static_cast<size_t>(rotary)];
  const Rotary& r = model_->rotaries[static_cast<size_t>(rotary)];
  if (r.dynamic == 0) length = 0;
  if (a.position == position && a.length == length) return a;
  const size_t half = static_cast<size_t>(r.rotated / 2);
  a.cos.resize(position.size() * half), a.sin.resize(a.cos.size());
  for (size_t i = 0; i < half; i++) {
    const double f = frequency(r, static_cast<int>(i), length);
    for (size_t t = 0; t < position.size(); t++) {
      a.cos[t * half + i] = static_cast<float>(std::cos(position[t] * f));
      a.sin[t * half + i] = static_cast<float>(std::sin(position[t] * f));
    }
  }
  a.position = position;
  a.length = length;
  return a;
}

void Stage::late(int layer, int rows, kernels::AttentionShape* shape) {
  const int rotary = model_->layers[static_cast<size_t>(layer)].rotary;
  const Rotary& r = model_->rotaries[static_cast<size_t>(rotary)];
  slots_.resize(model_->rotaries.size());
  Slots& s = slots_[static_cast<size_t>(rotary)];
  if (s.rows < rows) {
    s.rows = (rows + rows / 2 + 63) / 64 * 64;  // columns are read 16 at a time
    const size_t half = static_cast<size_t>(r.rotated / 2), n = static_cast<size_t>(s.rows);
    s.cos.resize(half * n), s.sin.resize(half * n);
    for (size_t i = 0; i < half; i++) {
      const double f = frequency(r, static_cast<int>(i), 0);
      for (size_t j = 0; j < n; j++) {
        s.cos[i * n + j] = static_cast<float>(std::cos(static_cast<double>(j) * f));
        s.sin[i * n + j] = static_cast<float>(std::sin(static_cast<double>(j) * f));
      }
    }
  }
  shape->cos = s.cos.data(), shape->sin = s.sin.data(), shape->rotated = r.rotated, shape->table_rows = s.rows;
}

void Stage::apply(const Linear& linear, const float* x, size_t ldx, int n, int cols, bool accumulate, float* out,
                  size_t ldo, Team& team) {
  apply_linear(*model_->backend, linear, x, ldx, n, cols, accumulate, out, ldo, prepared_, team);
}

namespace {

template <class F>
void guarded(const std::vector<StageEntry*>& entries, F&& work) {
  const auto failed = [&](const Error& error) {
    for (StageEntry* e : entries) e->error = std::make_unique<Error>(error);
  };
  try {
    work();
  } catch (const Error& error) {
    failed(error);
  } catch (const std::bad_alloc&) {
    failed(Error(Code::out_of_memory, "[stage] expected more memory to be free"));
  }
}

void need_embeddable(const StageEntry& e) {
  for (int row = e.begin; row < e.end; row++) {
    if (e.session->embeddable(row)) continue;
    throw Error(Code::plan, "[stage] expected a row of features for every patch that is not dropped, token " +
                                std::to_string(e.session->rows().source[static_cast<size_t>(row)]) + " has none");
  }
}

}  // namespace

void Stage::advance(std::vector<StageEntry>& entries, int from, int to) {
  std::vector<StageEntry*> left;
  for (StageEntry& e : entries) {
    guarded({&e}, [&] {
      if (from == 0) need_embeddable(e);
      reserve_step(e, from, to);
    });
    if (!e.error) left.push_back(&e);
  }
  // Sessions that skip different sub-layers cannot share a pass.
  while (!left.empty()) {
    const SessionOptions& o = left[0]->session->options();
    std::vector<StageEntry*> group, rest;
    for (StageEntry* e : left) {
      const SessionOptions& other = e->session->options();
      (other.skip_attention == o.skip_attention && other.skip_mlp == o.skip_mlp ? group : rest).push_back(e);
    }
    guarded(group, [&] { run_group(group, from, to); });
    left.swap(rest);
  }
}

// Room for the row of a decode step in every layer, before anything runs: where there is none, no other session suffers.
void Stage::reserve_step(StageEntry& entry, int from, int to) {
  Session& s = *entry.session;
  if (s.call_tokens() != 1) return;
  for (int l = from; l < to; l++) {
    if (s.cache().holds(l)) s.cache().reserve(l, 1);
  }
}

// Rows of tokens from their ids; those of patches have come with the call, and nothing scales them.
void Stage::embed(const StageEntry& e, Team& team) {
  Session& s = *e.session;
  const size_t d = static_cast<size_t>(model_->config.hidden);
  std::vector<int32_t> ids;
  for (int first = e.begin; first < e.end;) {
    ids.clear();
    for (int row = first; row < e.end && s.id(row) >= 0; row++) ids.push_back(s.id(row));
    const int n = static_cast<int>(ids.size());
    if (n > 0)
      model_->backend->embedding(model_->embedding, ids.data(), n, model_->config.embedding_scale,
                                 s.rows().hidden.as<float>() + static_cast<size_t>(first) * d, team);
    first += n > 0 ? n : 1;
  }
}

void Stage::run_group(std::vector<StageEntry*>& group, int from, int to) {
  const Config& c = model_->config;
  const size_t d = static_cast<size_t>(c.hidden);
  // What a decode step has added to the mass of rows could not be taken back: such a step runs to its end.
  bool stoppable = group.size() == 1;
  for (int l = 0; stoppable && group[0]->session->call_tokens() == 1 && l < c.layers; l++)
    stoppable = !group[0]->session->sums_attention(l);
  Team team(model_->threads, stoppable ? &group[0]->session->stop() : nullptr);
  int rows = 0;
  for (const StageEntry* e : group) rows += e->end - e->begin;
  const bool alone = group.size() == 1;
  if (!alone) hidden_.need(static_cast<size_t>(rows) * d * sizeof(float));
  float* hidden = alone ? group[0]->session->rows().hidden.as<float>() + static_cast<size_t>(group[0]->begin) * d
                        : hidden_.as<float>();
  int at = 0;
  for (StageEntry* e : group) {
    float* own = e->session->rows().hidden.as<float>() + static_cast<size_t>(e->begin) * d;
    const int n = e->end - e->begin;
    if (from == 0) embed(*e, team);
    if (!alone) std::memcpy(hidden + static_cast<size_t>(at) * d, own, static_cast<size_t>(n) * d * sizeof(float));
    at += n;
  }
  Block block(*this, group, hidden, rows, team);
  for (int l = from; l < to; l++) block.run(l);
  at = 0;
  for (StageEntry* e : group) {
    const int n = e->end - e->begin;
    if (!alone)
      std::memcpy(e->session->rows().hidden.as<float>() + static_cast<size_t>(e->begin) * d,
                  hidden + static_cast<size_t>(at) * d, static_cast<size_t>(n) * d * sizeof(float));
    at += n;
  }
  if (to < c.layers) return;
  run_head(group, hidden, team);
  if (team.stopped()) throw Error(Code::aborted, "[stage] the call was stopped");
  for (StageEntry* e : group) {
    if (e->session->call_tokens() > 1) continue;
    for (int l = 0; l < c.layers; l++) e->session->apply_rule(l);
    e->session->settle();
  }
}

void Stage::head_logits(const float* hidden, int n, float* logits, Team& team) {
  const Config& c = model_->config;
  const size_t d = static_cast<size_t>(c.hidden);
  normed_.need(static_cast<size_t>(n) * d * sizeof(float));
  model_->backend->rms_norm(hidden, d, n, 1, c.hidden, model_->output_norm, c.norm_eps, nullptr, normed_.as<float>(), d,
                            team);
  Linear head;
  head.parts.push_back({model_->head, 0, nullptr});
  apply(head, normed_.as<float>(), d, n, c.hidden, false, logits, static_cast<size_t>(c.vocabulary), team);
}

void Stage::run_head(std::vector<StageEntry*>& group, const float* hidden, Team& team) {
  const Config& c = model_->config;
  const size_t d = static_cast<size_t>(c.hidden), v = static_cast<size_t>(c.vocabulary);
  std::vector<StageEntry*> wishes;
  int at = 0;
  for (StageEntry* e : group) {
    const float* own = hidden + static_cast<size_t>(at) * d;
    const int n = e->end - e->begin;
    if (e->head.logits == HeadWish::Logits::scores) scores(*e, own, team);
    if (e->head.logits == HeadWish::Logits::all) {
      e->logits.resize(static_cast<size_t>(n) * v);
      for (int r = 0; r < n && !team.stopped(); r += 64)
        head_logits(own + static_cast<size_t>(r) * d, std::min(64, n - r),
                    e->logits.data() + static_cast<size_t>(r) * v, team);
    }
    at += n;
    const float* newest = own + static_cast<size_t>(n - 1) * d;
    e->session->last_hidden().assign(newest, newest + d);
    if (e->head.logits == HeadWish::Logits::last || e->head.sampler) wishes.push_back(e);
  }
  answer(wishes, team);
}

void Stage::speak(StageEntry& entry) {
  if (entry.session->running() || entry.session->last_hidden().empty()) {
    throw Error(Code::internal, "[stage] expected a session whose newest row is known");
  }
  Team team(model_->threads);
  answer({&entry}, team);
}

// What follows the newest row of each session.
void Stage::answer(const std::vector<StageEntry*>& wishes, Team& team) {
  if (wishes.empty()) return;
  const Config& c = model_->config;
  const size_t v = static_cast<size_t>(c.vocabulary);
  std::vector<float> last;  // [wishes][hidden]
  for (StageEntry* e : wishes) {
    const std::vector<float>& newest = e->session->last_hidden();
    last.insert(last.end(), newest.begin(), newest.end());
  }
  logits_.need(wishes.size() * v * sizeof(float));
  head_logits(last.data(), static_cast<int>(wishes.size()), logits_.as<float>(), team);
  for (size_t i = 0; i < wishes.size(); i++) {
    float* logits = logits_.as<float>() + i * v;
    HeadWish& wish = wishes[i]->head;
    if (wish.logits == HeadWish::Logits::last) wishes[i]->logits.assign(logits, logits + v);
    if (!wish.sampler) continue;
    const trace::Span span(trace::Kind::kernel, "sample");
    wishes[i]->token =
        wish.sampler->sample(logits, c.vocabulary, wish.recent.data(), static_cast<int>(wish.recent.size()),
                             wish.logprob ? &wishes[i]->logprob : nullptr);
  }
}

// Log-probability of each row's own id, given by the row before it: the newest row of what ran last for the first.
void Stage::scores(StageEntry& e, const float* hidden, Team& team) {
  const Config& c = model_->config;
  const size_t d = static_cast<size_t>(c.hidden), v = static_cast<size_t>(c.vocabulary);
  const Rows& rows = e.session->rows();
  const int n = e.end - e.begin;
  std::vector<float>& before = e.session->last_hidden();
  e.logits.assign(static_cast<size_t>(n), std::numeric_limits<float>::quiet_NaN());
  constexpr int kStep = 32;
  std::vector<float> x(kStep * d), lse(kStep);
  logits_.need(kStep * v * sizeof(float));
  for (int r = 0; r < n && !team.stopped(); r += kStep) {
    const int count = std::min(kStep, n - r);
    for (int i = 0; i < count; i++) {
      const float* from = r + i > 0        ? hidden + static_cast<size_t>(r + i - 1) * d
                          : before.empty() ? hidden
                                           : before.data();
      std::memcpy(x.data() + static_cast<size_t>(i) * d, from, d * sizeof(float));
    }
    float* logits = logits_.as<float>();
    head_logits(x.data(), count, logits, team);
    model_->backend->softmax(logits, v, count, c.vocabulary, nullptr, v, lse.data(), team);
    for (int i = 0; i < count; i++) {
      const int row = e.begin + r + i;
      const int32_t source = rows.source[static_cast<size_t>(row)];
      const bool known = row > 0 ? rows.source[static_cast<size_t>(row - 1)] == source - 1
                                 : source == e.session->tokens() && !before.empty();
      if (!known) continue;
      const int32_t id = e.session->id(row);
      if (id < 0) continue;
      e.logits[static_cast<size_t>(r + i)] =
          logits[static_cast<size_t>(i) * v + static_cast<size_t>(id)] - lse[static_cast<size_t>(i)];
    }
  }
}

}  // namespace tokensieve
