// Sessions that begin with what another one holds: forks, and prefixes that are taken.
#include <algorithm>
#include <utility>

#include "core/error.h"
#include "engine/session.h"

namespace tokensieve {

int Session::first_rows() const {
  // Angles that go by the length of the prompt differ from prompt to prompt.
  for (const Rotary& rotary : model_->rotaries) {
    if (rotary.dynamic > 0) return 0;
  }
  int least = tokens_;
  for (int l = 0; l < model_->config.layers; l++) {
    for (int h = 0; cache_->holds(l) && h < model_->config.kv_heads; h++) {
      const HeadRows& head = cache_->head(l, h);
      const bool packed =
          cache_->packed_rows(kernels::Side::keys, l, h) > 0 || cache_->packed_rows(kernels::Side::values, l, h) > 0;
      if (packed || !head.size.empty() || !head.coarse.empty()) return 0;
      least = std::min(least, head.source.leading());
    }
  }
  return least;
}

void Session::take(const Session& from, int tokens) {
  const SessionOptions& theirs = from.options_;
  if (running_ || tokens_ != 0 || tokens < 0 || tokens > from.tokens_ || from.model_ != model_ ||
      !(theirs.kv == options_.kv) || theirs.repack != options_.repack ||
      theirs.skip_attention != options_.skip_attention || theirs.skip_mlp != options_.skip_mlp ||
      theirs.skip_heads != options_.skip_heads || theirs.fine != options_.fine) {
    throw Error(Code::internal, "[session] expected an empty session and one of its options with " +
                                    std::to_string(tokens) + " tokens");
  }
  std::unique_ptr<KvCache> cache = from.cache_->clone();
  cache->truncate(tokens);
  std::vector<Fate> fates(from.fates_.begin(), from.fates_.begin() + tokens);
  std::vector<int32_t> next_position = positions_after(fates);
  std::vector<float> last_hidden;
  if (tokens == from.tokens_ && !from.running_) last_hidden = from.last_hidden_;
  cache_.swap(cache);
  if (live_rows() > options_.context_length) {
    const int rows = live_rows();
    cache_.swap(cache);
    throw Error(Code::context_full, "[session] expected a context of at least " + std::to_string(rows) + " rows, got " +
                                        std::to_string(options_.context_length));
  }
  fates_.swap(fates);
  next_position_.swap(next_position);
  last_hidden_.swap(last_hidden);
  tokens_ = tokens;
}

std::unique_ptr<Session> Session::fork() const {
  auto twin = std::make_unique<Session>(model_, options_);
  twin->cache_ = cache_->clone();
  twin->next_position_ = next_position_;
  twin->rules_ = rules_;
  twin->fates_ = fates_;
  twin->tokens_ = tokens_;
  twin->last_hidden_ = last_hidden_;
  if (running_) {  // all of its rows have run: as if it were done, without what the end of a call gives up
    twin->tokens_ += static_cast<int>(ids_.size());
    for (size_t l = 0; l < extents_.size(); l++) twin->next_position_[l] += extents_[l];
  }
  return twin;
}

}  // namespace tokensieve
