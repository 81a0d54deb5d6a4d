// What follows the newest rows of sessions: from all logits, or from no more than the token of the largest takes.
#include <algorithm>
#include <cstring>

#include "core/trace.h"
#include "engine/stage.h"

namespace tokensieve {

namespace {

constexpr int kLeastPause = 8, kMostPause = 512;

// All want the token of the largest logit and nothing else.
bool want_largest(const std::vector<StageEntry*>& wishes) {
  return std::all_of(wishes.begin(), wishes.end(), [](const StageEntry* e) {
    const HeadWish& wish = e->head;
    return wish.logits != HeadWish::Logits::last && !wish.logprob &&
           wish.sampler->takes_largest(static_cast<int>(wish.recent.size()));
  });
}

}  // namespace

// Tokens of the largest logits for sessions that want nothing else, from part of the head (kernels/screen.h). False, and
// nothing answered, where the logits are needed. After a failure the next calls do not try, each time twice as many.
bool Stage::screen(const std::vector<StageEntry*>& wishes, Team& team) {
  if (model_->head.fine == nullptr || wishes.size() > kernels::kScreened || !want_largest(wishes)) return false;
  if (wishes[0]->session->head_arithmetic() == Arithmetic::fine) return false;
  if (pause_ > 0) return pause_--, false;
  const int n = static_cast<int>(wishes.size());
  const kernels::Backend& backend = *model_->device(model_->config.layers - 1).backend;
  kernels::Screened found[kernels::kScreened];
  const float* const x = normalize(last_.as<float>(), n, team);
  screen_linear(backend, model_->head, x, n, found, prepared_, scratch_, team);
  if (team.stopped()) return true;  // nothing will be said
  if (std::any_of(found, found + n, [](const kernels::Screened& s) { return s.row < 0; })) {
    pause_ = wait_ = std::min(std::max(2 * wait_, kLeastPause), kMostPause);
    return false;
  }
  wait_ = 0;
  for (int i = 0; i < n; i++) wishes[static_cast<size_t>(i)]->token = found[i].row;
  return true;
}

// What follows the newest row of each session.
void Stage::answer(const std::vector<StageEntry*>& wishes, Team& team) {
  if (wishes.empty()) return;
  const Config& c = model_->config;
  const size_t v = static_cast<size_t>(c.vocabulary);
  last_.need(wishes.size() * static_cast<size_t>(c.hidden) * sizeof(float));
  const Device& device = model_->device(c.layers - 1);
  const HeldBack held(device, true);
  float* last = last_.as<float>();  // [wishes][hidden]
  for (StageEntry* e : wishes) {
    const std::vector<float>& newest = e->session->last_hidden();
    device.send(newest.data(), last, newest.size());
    last += newest.size();
  }
  if (screen(wishes, team)) return;
  logits_.need(wishes.size() * v * sizeof(float));
  head_logits(wishes[0]->session->head_arithmetic(), last_.as<float>(), static_cast<int>(wishes.size()),
              logits_.as<float>(), team);
  if (take_largest(wishes, device, team) || take_candidates(wishes, device, team)) return;
  const float* logits = device.fetch(logits_.as<float>(), wishes.size() * v);
  device.wait();
  for (StageEntry* e : wishes) {
    HeadWish& wish = e->head;
    if (wish.logits == HeadWish::Logits::last) e->logits.assign(logits, logits + v);
    if (wish.sampler) {
      const trace::Span span(trace::Kind::kernel, "sample");
      e->token = wish.sampler->sample(logits, c.vocabulary, wish.recent.data(), static_cast<int>(wish.recent.size()),
                                      wish.logprob ? &e->logprob : nullptr);
    }
    logits += v;
  }
}

// On a card, where all want the largest and nothing else: it is found there, and logits stay. Else false.
bool Stage::take_largest(const std::vector<StageEntry*>& wishes, const Device& device, Team& team) {
  if (!device.queue || !want_largest(wishes)) return false;
  const int v = model_->config.vocabulary;
  tokens_.need(wishes.size() * sizeof(int32_t));
  for (size_t i = 0; i < wishes.size(); i++)
    device.backend->top_k(logits_.as<float>() + i * static_cast<size_t>(v), v, 1, kernels::Order::index,
                          tokens_.as<int32_t>() + i, nullptr, team);
  const float* const found = device.fetch(tokens_.as<float>(), wishes.size());  // bits that cross as they are
  device.wait();
  for (size_t i = 0; i < wishes.size(); i++) {
    int32_t token;
    std::memcpy(&token, found + i, sizeof token);
    wishes[i]->token = token;
  }
  return true;
}

}  // namespace tokensieve
