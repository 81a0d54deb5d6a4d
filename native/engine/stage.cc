#include "engine/stage.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/error.h"
#include "engine/block.h"

namespace tokensieve {

namespace {

constexpr size_t kLogitRows = 64;  // of which all logits are made at once

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

Stage::Stage(std::shared_ptr<const Model> model) : model_(std::move(model)) {
  for (Buffer* buffer :
       {&hidden_, &normed_, &qkv_, &attended_, &gated_, &prepared_, &scratch_, &logits_, &tokens_, &last_, &packed_})
    *buffer = Buffer(model_->memory());
  for (size_t i = 0; i < model_->stages.size(); i++) card_mass_.push_back(std::make_unique<CardMass>());
}

// Angles are sums of two, of a multiple of kLow and of what is left of the position: few sines for many rows. The sums
// are in double, so that f32 hides the way.
constexpr int kLow = 32;

const Stage::Angles& Stage::angles(const Device& device, int rotary, const std::vector<int32_t>& position, int length) {
  while (angles_.size() < model_->rotaries.size()) angles_.push_back({{}, -1, numbers(0), numbers(0), {}});
  Angles& a = angles_[static_cast<size_t>(rotary)];
  const Rotary& r = model_->rotaries[static_cast<size_t>(rotary)];
  if (r.dynamic == 0) length = 0;
  if (a.position == position && a.length == length) return a;
  const size_t half = static_cast<size_t>(r.rotated / 2), count = position.size() * half;
  if (count > a.cos.size()) {
    model_->wait();  // kernels that are under way read what was here
    a.cos.resize(count), a.sin.resize(count);
  }
  if (a.length != length) a.low.clear();
  angle_.resize(2 * count);
  float *const cos = angle_.data(), *const sin = cos + count;
  for (size_t i = 0; i < half; i++) {
    const double f = frequency(r, static_cast<int>(i), length);
    for (int p = 0; p < kLow && a.low.size() < 2 * kLow * half; p++)
      a.low.push_back(std::cos(p * f)), a.low.push_back(std::sin(p * f));
    const double* const low = a.low.data() + 2 * kLow * i;
    double high_cos = 1, high_sin = 0;
    for (size_t t = 0, high = 0; t < position.size(); t++) {
      const size_t p = static_cast<size_t>(position[t]) % kLow;
      if (static_cast<size_t>(position[t]) - p != high) {
        high = static_cast<size_t>(position[t]) - p;
        high_cos = std::cos(static_cast<double>(high) * f), high_sin = std::sin(static_cast<double>(high) * f);
      }
      cos[t * half + i] = static_cast<float>(high_cos * low[2 * p] - high_sin * low[2 * p + 1]);
      sin[t * half + i] = static_cast<float>(high_sin * low[2 * p] + high_cos * low[2 * p + 1]);
    }
  }
  device.send(cos, a.cos.data(), count);
  device.send(sin, a.sin.data(), count);
  a.position = position;
  a.length = length;
  return a;
}

void Stage::late(int layer, int rows, kernels::AttentionShape* shape) {
  const int rotary = model_->layers[static_cast<size_t>(layer)].rotary;
  const Rotary& r = model_->rotaries[static_cast<size_t>(rotary)];
  while (slots_.size() < model_->rotaries.size()) slots_.push_back({0, numbers(0), numbers(0)});
  Slots& s = slots_[static_cast<size_t>(rotary)];
  if (s.rows < rows) {
    model_->wait();
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

void Stage::apply(const Device& device, const Linear& linear, Arithmetic arithmetic, const Input& in, bool accumulate,
                  float* out, size_t ldo, Team& team) {
  apply_linear(*device.backend, linear, arithmetic, in, accumulate, out, ldo, prepared_, team);
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
  // Sessions that skip different sub-layers or multiply in another way cannot share a pass, nor a prompt, whose rows may
  // pass layers, with others.
  while (!left.empty()) {
    const SessionOptions& o = left[0]->session->options();
    std::vector<StageEntry*> group, rest;
    for (StageEntry* e : left) {
      const SessionOptions& other = e->session->options();
      const bool alike = other.skip_attention == o.skip_attention && other.skip_mlp == o.skip_mlp &&
                         e->session->arithmetic() == left[0]->session->arithmetic(),
                 steps = e->session->call_tokens() == 1 && left[0]->session->call_tokens() == 1;
      (e == left[0] || (alike && steps) ? group : rest).push_back(e);
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
      model_->device(0).backend->embedding(model_->embedding, ids.data(), n, model_->config.embedding_scale,
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
  const std::atomic<bool>* const stop = stoppable ? &group[0]->session->stop() : nullptr;
  int rows = 0;
  for (const StageEntry* e : group) rows += e->end - e->begin;
  const bool alone = group.size() == 1;
  if (!alone) hidden_.need(static_cast<size_t>(rows) * d * sizeof(float));
  float* hidden = alone ? group[0]->session->rows().hidden.as<float>() + static_cast<size_t>(group[0]->begin) * d
                        : hidden_.as<float>();
  if (to == 0) {
    Team team(model_->threads, stop, model_->device(0).queue.get());
    for (const StageEntry* e : group) embed(*e, team);
    model_->device(0).wait();
  }
  const bool step = group[0]->session->call_tokens() == 1;  // as the others then are
  for (size_t i = 0; i < model_->stages.size(); i++) {
    const Placement& stage = model_->stages[i];
    const Placement layers{std::max(from, stage.from), std::min(to, stage.to), stage.device};
    if (layers.from >= layers.to) continue;
    mass_ = stage.device.queue ? card_mass_[i].get() : nullptr;
    prepare_mass(group, layers);
    const HeldBack held(stage.device, step);
    Team team(model_->threads, stop, stage.device.queue.get());
    for (const StageEntry* e : group) {
      if (layers.from == 0) embed(*e, team);
    }
    if (!alone && layers.from == from) copy_rows(group, hidden, true, stage.device, team);
    run_layers(group, layers, hidden, rows, team);
    if (!alone && layers.to == to) copy_rows(group, hidden, false, stage.device, team);
    if (mass_) mass_->fetch();
    stage.device.wait();
    if (mass_) mass_->finish();
  }
  if (to < c.layers) return;
  Team team(model_->threads, stop, model_->device(c.layers - 1).queue.get());
  run_head(group, hidden, team);
  if (team.stopped()) throw Error(Code::aborted, "[stage] the call was stopped");
  end_steps(group);
}

void Stage::run_layers(std::vector<StageEntry*>& group, const Placement& layers, float* hidden, int rows, Team& team) {
  Block block(*this, layers.device, group, hidden, rows, team);
  for (int l = layers.from; l < layers.to; l++) {
    if (group.size() > 1 || !run_some(*group[0], l, block, hidden, layers.device, team)) block.run(l);
  }
}

// The rows of all sessions side by side, or back to where each has its own.
void Stage::copy_rows(const std::vector<StageEntry*>& group, float* hidden, bool together, const Device& device,
                      Team& team) {
  const size_t d = static_cast<size_t>(model_->config.hidden);
  for (StageEntry* e : group) {
    float* own = e->session->rows().hidden.as<float>() + static_cast<size_t>(e->begin) * d;
    const int n = e->end - e->begin;
    std::vector<int32_t> all(static_cast<size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    device.backend->gather(together ? own : hidden, d, static_cast<int>(d), all.data(), n, together ? hidden : own, d,
                           team);
    hidden += static_cast<size_t>(n) * d;
  }
}

const float* Stage::normalize(const float* hidden, int n, Team& team) {
  const Config& c = model_->config;
  const size_t d = static_cast<size_t>(c.hidden);
  normed_.need(static_cast<size_t>(n) * d * sizeof(float));
  model_->device(c.layers - 1)
      .backend->rms_norm(hidden, d, n, 1, c.hidden, model_->output_norm, c.norm_eps, nullptr, normed_.as<float>(), d,
                         team);
  return normed_.as<float>();
}

void Stage::head_logits(Arithmetic arithmetic, const float* hidden, int n, float* logits, Team& team) {
  const Config& c = model_->config;
  const Input in{normalize(hidden, n, team), static_cast<size_t>(c.hidden), n, c.hidden};
  Linear head;
  head.parts.push_back({model_->head, 0, nullptr});
  apply(model_->device(c.layers - 1), head, arithmetic, in, false, logits, static_cast<size_t>(c.vocabulary), team);
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
      logits_.need(std::min(kLogitRows, static_cast<size_t>(n)) * v * sizeof(float));
      for (size_t r = 0; r < static_cast<size_t>(n) && !team.stopped(); r += kLogitRows) {
        const size_t count = std::min(kLogitRows, static_cast<size_t>(n) - r);
        head_logits(e->session->head_arithmetic(), own + r * d, static_cast<int>(count), logits_.as<float>(), team);
        model_->device(c.layers - 1).wait();
        std::memcpy(e->logits.data() + r * v, logits_.as<float>(), count * v * sizeof(float));
      }
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
  Team team(model_->threads, nullptr, model_->device(model_->config.layers - 1).queue.get());
  answer({&entry}, team);
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
  const Device& device = model_->device(c.layers - 1);
  Numbers<float> x = numbers(kStep * d), lse = numbers(kStep);
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
    head_logits(e.session->head_arithmetic(), x.data(), count, logits, team);
    device.backend->softmax(logits, v, count, c.vocabulary, nullptr, v, lse.data(), team);
    device.wait();
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
