#include "engine/session.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace tokensieve {

int Rule::budget(int held_tokens) const {
  return tokens > 0 ? tokens : std::max(1, static_cast<int>(std::ceil(share * held_tokens - 1e-9)));
}

namespace {

void check(const HeadKv& kv, int head_size) {
  for (DType type : {kv.keys, kv.values}) {
    const bool plain = type == DType::f32 || type == DType::f16 || type == DType::bf16;
    if (plain || head_size % 32 == 0) continue;
    throw Error(Code::unsupported, "[cache] expected a head size that is a multiple of 32 for " +
                                       std::string(traits(type).name) + ", this model's is " +
                                       std::to_string(head_size));
  }
  if ((kv.hadamard_keys || kv.hadamard_values) && !kernels::takes_hadamard(head_size)) {
    throw Error(Code::unsupported,
                "[cache] expected a head size that is a power of two for a rotated cache, this "
                "model's is " +
                    std::to_string(head_size));
  }
}

}  // namespace

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options)
    : model_(std::move(model)), options_(options) {
  const size_t layers = static_cast<size_t>(model_->config.layers);
  if (options_.kv.empty()) options_.kv.emplace_back();
  options_.skip_attention.resize(layers, 0);
  options_.skip_mlp.resize(layers, 0);
  rules_.resize(layers);
  next_position_.assign(layers, 0);
  cache_ = std::make_unique<KvCache>(cache_shape(), *model_->backend, &model_->stages);
}

CacheShape Session::cache_shape() const {
  const Config& c = model_->config;
  CacheShape shape;
  shape.layers = c.layers, shape.kv_heads = c.kv_heads, shape.head_size = c.head_size;
  for (const HeadKv& kv : options_.kv) check(kv, c.head_size);
  static_cast<HeadFormat&>(shape) = options_.kv.front();
  if (options_.kv.size() > 1) shape.heads.assign(options_.kv.begin(), options_.kv.end());
  for (uint8_t skipped : options_.skip_attention) shape.holds.push_back(!skipped);
  return shape;
}

Arithmetic Session::arithmetic() const {
  const bool prompt = options_.fine == SessionOptions::Fine::prompts && call_tokens() > 1;
  return prompt ? Arithmetic::fine : head_arithmetic();
}

Arithmetic Session::head_arithmetic() const {
  return options_.fine == SessionOptions::Fine::all ? Arithmetic::fine : Arithmetic::fast;
}

namespace {

void check_ids(const std::vector<int32_t>& ids, int vocabulary) {
  for (int32_t id : ids) {
    if (id >= vocabulary)
      throw Error(Code::plan, "[session] expected token ids from 0 to " + std::to_string(vocabulary - 1) +
                                  ", and below 0 for patches, got " + std::to_string(id));
  }
}

void check_features(const Features& features, const std::vector<int32_t>& ids, size_t width) {
  if (features.rows.size() != features.places.size() * width)
    throw Error(Code::plan, "[session] expected " + std::to_string(width) + " numbers for each of " +
                                std::to_string(features.places.size()) + " patches, got " +
                                std::to_string(features.rows.size()) + " in all");
  int32_t last = -1;
  for (int32_t place : features.places) {
    if (place <= last || static_cast<size_t>(place) >= ids.size() || ids[static_cast<size_t>(place)] >= 0)
      throw Error(Code::plan,
                  "[session] expected features at ascending places of patches, got one at " + std::to_string(place));
    last = place;
  }
  for (float x : features.rows) {
    if (!std::isfinite(x)) throw Error(Code::plan, "[session] expected finite numbers in rows of features");
  }
}

}  // namespace

void Session::begin(std::vector<int32_t> ids, const std::vector<Look>& looks, const Features& features, bool peek) {
  const Config& c = model_->config;
  if (running_) throw Error(Code::internal, "[session] expected the last call to have ended");
  if (ids.empty()) throw Error(Code::internal, "[session] expected at least one token");
  const int live = live_rows();
  if (ids.size() > static_cast<size_t>(std::max(0, options_.context_length - live)) ||
      ids.size() > static_cast<size_t>(kMostTokens - tokens_)) {
    throw Error(Code::context_full, "[session] expected at most " + std::to_string(options_.context_length) +
                                        " rows in the context, got " + std::to_string(live) + " and " +
                                        std::to_string(ids.size()) + " more");
  }
  const size_t n = ids.size(), d = static_cast<size_t>(c.hidden);
  check_ids(ids, c.vocabulary);
  check_features(features, ids, d);
  Rows rows;
  if (n == 1) rows.hidden = std::move(step_hidden_);
  if (rows.hidden.bytes() == 0) rows.hidden = Buffer(n * d * sizeof(float), false, model_->memory());
  for (size_t i = 0; i < features.places.size(); i++)
    std::copy_n(features.rows.data() + i * d, d, rows.hidden.as<float>() + static_cast<size_t>(features.places[i]) * d);
  std::vector<int32_t> featured = features.places;
  for (size_t i = 0; i < n; i++)
    rows.source.push_back(tokens_ + static_cast<int32_t>(i)), rows.offset.push_back(static_cast<int32_t>(i));
  rows.extent = static_cast<int>(n);
  std::unique_ptr<KvCache> backup = n > 1 || peek ? cache_->clone() : nullptr;
  std::vector<Observed> observed;
  for (const Look& look : looks) observed.push_back({look, 0, Numbers<float>(model_->memory()), {}, {}, {}});

  backup_ = std::move(backup);
  backup_hidden_ = last_hidden_;
  backup_fates_ = fates_.size();
  rows_ = std::move(rows);
  observed_ = std::move(observed);
  ids_ = std::move(ids);
  featured_ = std::move(featured);
  extents_.assign(static_cast<size_t>(c.layers), 0);
  fates_.resize(fates_.size() + n, Fate{static_cast<uint16_t>(c.layers), true});
  passing_ = Passing();
  layer_ = 0;
  stop_ = false;
  evicted_ = false;
  running_ = true, peeks_ = peek;
}

bool Session::embeddable(int row) const {
  return id(row) >= 0 ||
         std::binary_search(featured_.begin(), featured_.end(), rows_.source[static_cast<size_t>(row)] - tokens_);
}

void Session::read(kernels::Side side, int layer, int head, float* out) const {
  cache_->read(side, layer, head, out);
  plain(side, layer, head, cache_->rows(layer, head), out);
  if (cache_->coarse_rows(layer, head) == 0) return;
  const size_t width = static_cast<size_t>(model_->config.head_size),
               all = static_cast<size_t>(cache_->rows(layer, head)) * width;
  const std::vector<float> sorted = in_order(layer, head, {out, out + all}, width);
  std::copy(sorted.begin(), sorted.end(), out);
}

void Session::read_stored(kernels::Side side, int layer, int head, float* out) const {
  cache_->read_stored(side, layer, head, out);
  plain(side, layer, head, static_cast<int>(cache_->stored(layer, head).size()), out);
}

void Session::plain(kernels::Side side, int layer, int head, int rows, float* out) const {
  const HeadKv& made = kv(layer, head);
  if (!(side == kernels::Side::keys ? made.hadamard_keys : made.hadamard_values)) return;
  const int size = model_->config.head_size;
  Team team(1);
  model_->backend->hadamard(out, static_cast<size_t>(size), rows, 1, size, team);
}

const HeadKv& Session::kv(int layer, int head) const {
  if (options_.kv.size() == 1) return options_.kv.front();
  return options_.kv[static_cast<size_t>(layer * model_->config.kv_heads + head)];
}

void Session::hadamard(bool HeadKv::* asks, int layer, float* rows, size_t ld, int n, int each, Team& team) const {
  const int heads = model_->config.kv_heads, size = model_->config.head_size;
  for (int h = 0, run = 1; h < heads; h += run) {
    const bool asked = kv(layer, h).*asks;
    for (run = 1; h + run < heads && kv(layer, h + run).*asks == asked;) run++;
    if (asked) model_->device(layer).backend->hadamard(rows + h * each * size, ld, n, run * each, size, team);
  }
}

void Session::ran(int layer) {
  extents_[static_cast<size_t>(layer)] = rows_.extent;
  layer_ = layer + 1;
}

void Session::settle() {
  for (const Placement& stage : model_->stages) {
    PageWork batch(stage.device, model_->config.head_size);
    for (int l = stage.from; l < stage.to; l++) settle(l, batch);
  }
}

void Session::settle(int layer, PageWork& batch) {
  cache_->settle(layer, &batch);
  trim_window(layer, batch);
}

void Session::commit() {
  if (ids_.size() > 1) settle();
  for (size_t l = 0; l < next_position_.size(); l++) next_position_[l] += extents_[l];
  tokens_ += static_cast<int>(ids_.size());
  running_ = false;
  backup_.reset();
  drop_rows();
  observed_.clear();
  if (evicted_) cache_->give_back();
}

// Where a step's row lay the next one's will: memory of a device is slow to come by, and its kernels are told the same.
void Session::drop_rows() noexcept {
  if (ids_.size() == 1) step_hidden_ = std::move(rows_.hidden);
  rows_ = Rows();
}

void Session::rollback() noexcept {
  if (!running_) return;
  if (backup_) {
    cache_->swap(*backup_);
    backup_.reset();
  } else {
    cache_->truncate(tokens_);
  }
  last_hidden_.swap(backup_hidden_);
  fates_.resize(backup_fates_);
  drop_rows();
  observed_.clear();
  ids_.clear();
  running_ = false;
}

int Session::live_rows() const {
  int most = 0;
  for (int l = 0; l < model_->config.layers; l++) {
    for (int h = 0; h < model_->config.kv_heads; h++) most = std::max(most, cache_->rows(l, h));
  }
  return most;
}

void Session::apply_rule(int layer, PageWork& batch) {
  const Rule& rule = rules_[static_cast<size_t>(layer)];
  if (rule.kind == Rule::Kind::none || !cache_->holds(layer)) return;
  const int tokens = tokens_ + static_cast<int>(ids_.size()),
            window = model_->layers[static_cast<size_t>(layer)].window;
  const int budget = rule.budget(window > 0 ? std::min(window, tokens) : tokens);
  for (int h = 0; h < cache_->shape().kv_heads; h++) {
    for (int rows = cache_->rows(layer, h); rows > budget; rows = cache_->rows(layer, h)) {
      int index = std::min(rule.sinks, budget - 1);
      if (rule.kind == Rule::Kind::mass) {
        const int recent = std::min(budget, static_cast<int>(std::ceil(rule.recent * budget - 1e-9)));
        const float* mass = cache_->mass(layer, h);
        index = 0;
        for (int j = 1; j < rows - recent; j++)
          index = mass[j] <= mass[index] ? j : index;  // of equals the lower stays
      }
      if (!may_go(rule, layer, h, index)) break;
      if (!cache_->remove_row(layer, h, index, &batch)) break;
    }
  }
}

bool Session::may_go(const Rule& rule, int layer, int head, int index) {
  if (rule.max_dropped >= 1) return true;
  const float* mass = cache_->mass(layer, head);
  const HeadRows& table = cache_->head(layer, head);
  double all = table.dropped;
  for (float of_row : table.mass) all += static_cast<double>(of_row);
  return table.dropped + static_cast<double>(mass[index]) <= rule.max_dropped * all;
}

void Session::trim_window(int layer, PageWork& batch) {
  const int window = model_->layers[static_cast<size_t>(layer)].window;
  if (window == 0 || !cache_->holds(layer)) return;
  const int end = tokens_ + static_cast<int>(ids_.size());
  for (int h = 0; h < cache_->shape().kv_heads;
       h++) {  // the next query stands at `end` and sees sources above end - window
    const int gone = cache_->head(layer, h).source.up_to(end - window);
    cache_->remove_first(layer, h, gone, &batch);
    evicted_ = evicted_ || (ids_.size() > 1 && gone > 0);
  }
}

void Session::reset() {
  rollback();
  auto cache = std::make_unique<KvCache>(cache_shape(), *model_->backend, &model_->stages);
  cache_ = std::move(cache);
  std::fill(next_position_.begin(), next_position_.end(), 0);
  fates_.clear();
  last_hidden_.clear();
  tokens_ = 0;
}

void Session::truncate(int tokens) {
  if (running_ || tokens < 0 || tokens > tokens_)
    throw Error(Code::internal, "[session] expected 0 to " + std::to_string(tokens_) + " tokens to be kept, got " +
                                    std::to_string(tokens));
  if (tokens == tokens_) return;
  cache_->truncate(tokens);
  tokens_ = tokens;
  fates_.resize(static_cast<size_t>(tokens));
  last_hidden_.clear();
  next_position_ = positions_after(fates_);
}

std::vector<int32_t> Session::positions_after(const std::vector<Fate>& fates) const {
  std::vector<int32_t> next(next_position_.size(), 0);
  for (size_t l = 0; l < next.size(); l++) {
    for (const Fate& f : fates) next[l] += f.keeps_position || l < f.layers;
  }
  return next;
}

}  // namespace tokensieve
