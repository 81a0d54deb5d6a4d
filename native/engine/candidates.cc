// On a card, where few of the largest logits decide every token: they are found there and cross alone, instead of all
// logits of the vocabulary.
#include <algorithm>
#include <cstring>

#include "core/trace.h"
#include "engine/stage.h"

namespace tokensieve {

namespace {
constexpr int kMostCandidates = 1024;  // more are not worth their sort
}  // namespace

// Of each wish, ids and then logits, which come by a second wait: kernels take the lists of others from the host. False
// where more is wanted.
bool Stage::take_candidates(const std::vector<StageEntry*>& wishes, const Device& device, Team& team) {
  if (!device.queue) return false;
  const int v = model_->config.vocabulary;
  std::vector<int> counts;
  size_t all = 0;
  for (const StageEntry* e : wishes) {
    const HeadWish& wish = e->head;
    if (wish.logits == HeadWish::Logits::last || wish.logprob) return false;
    const int count = wish.sampler->candidates(v, static_cast<int>(wish.recent.size()));
    if (count >= v || count > kMostCandidates) return false;
    counts.push_back(count);
    all += static_cast<size_t>(count);
  }
  tokens_.need(all * sizeof(int32_t));
  scratch_.need(static_cast<size_t>(v) * 8);
  const auto logits_of = [&](size_t i) { return logits_.as<float>() + i * static_cast<size_t>(v); };
  for (size_t i = 0, at = 0; i < wishes.size(); at += static_cast<size_t>(counts[i++])) {
    device.backend->top_k(logits_of(i), v, counts[i], kernels::Order::value, tokens_.as<int32_t>() + at,
                          scratch_.data(), team);
  }
  const float* const found = device.fetch(tokens_.as<float>(), all);  // bits that cross as they are
  device.wait();
  std::vector<int32_t> tokens(all);
  std::memcpy(tokens.data(), found, all * sizeof(int32_t));
  for (size_t i = 0, at = 0; i < wishes.size(); at += static_cast<size_t>(counts[i++]))
    device.backend->gather(logits_of(i), 1, 1, tokens.data() + at, counts[i], tokens_.as<float>() + at, 1, team);
  const float* const logits = device.fetch(tokens_.as<float>(), all);
  device.wait();
  for (size_t i = 0, at = 0; i < wishes.size(); at += static_cast<size_t>(counts[i++])) {
    const trace::Span span(trace::Kind::kernel, "sample");
    const std::vector<int32_t>& recent = wishes[i]->head.recent;
    wishes[i]->token = wishes[i]->head.sampler->sample_among(logits + at, tokens.data() + at, counts[i], recent.data(),
                                                             static_cast<int>(recent.size()));
  }
  return true;
}

}  // namespace tokensieve
