#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "core/half.h"

namespace tokensieve {

namespace {

uint64_t rotate_left(uint64_t x, int by) noexcept { return x << by | x >> (64 - by); }

constexpr float kNone = -INFINITY;
constexpr int kBlock = 1024;

// What of the values is greater than a limit, in eight sums so that they can run side by side.
double mass_above(const float* values, size_t n, float limit) noexcept {
  double sums[8] = {};
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) sums[lane] += values[i + lane] > limit ? values[i + lane] : 0.0f;
  }
  for (; i < n; ++i) sums[i % 8] += values[i] > limit ? values[i] : 0.0f;
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

double block_mass(const float* values, int n) noexcept { return mass_above(values, static_cast<size_t>(n), 0); }

}  // namespace

Random::Random(uint64_t seed) noexcept {
  for (uint64_t& word : state_.words) {
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    word = z ^ (z >> 31);
  }
}

uint64_t Random::next() noexcept {
  uint64_t* const s = state_.words;
  const uint64_t result = rotate_left(s[1] * 5, 7) * 9;
  const uint64_t t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotate_left(s[3], 45);
  return result;
}

Sampler::Sampler(const kernels::Backend& backend, const SamplerOptions& options)
    : backend_(backend), options_(options), random_(options.seed) {}

int Sampler::sample(const float* logits, int n, const int32_t* recent, int recent_count, float* log_probability) {
  const bool penalized = penalizes(recent_count);
  if (takes_largest(recent_count) && !log_probability) return largest(logits, n);

  values_.resize(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) values_[i] = logits[i] == logits[i] ? logits[i] : kNone;
  float lse = 0;
  if (log_probability) {
    Team alone(1);
    backend_.softmax(values_.data(), 0, 1, n, nullptr, 0, &lse, alone);
  }
  if (penalized) penalize(n, recent, recent_count);
  const int token = greedy() ? largest(values_.data(), n) : draw(n);
  if (log_probability) *log_probability = logits[token] > kNone ? logits[token] - lse : kNone;
  return token;
}

int Sampler::largest(const float* values, int n) const noexcept {
  int32_t token = 0;
  Team alone(1);
  backend_.top_k(values, n, 1, kernels::Order::index, &token, nullptr, alone);
  return token;
}

int Sampler::candidates(int n, int recent_count) const noexcept {
  const int k = greedy() ? 1 : options_.top_k, more = penalizes(recent_count) ? penalized_count(recent_count) : 0;
  if (k <= 0 || k >= n || (more > 0 && !(options_.repeat_penalty >= 1))) return n;
  return more < n - k ? k + more : n;
}

int Sampler::sample_among(const float* logits, const int32_t* tokens, int count, const int32_t* recent,
                          int recent_count) {
  candidates_.clear();
  for (int i = 0; i < count; ++i) candidates_.push_back({logits[i] == logits[i] ? logits[i] : kNone, tokens[i]});
  if (penalizes(recent_count)) {
    keep_recent(recent, recent_count);
    for (Candidate& candidate : candidates_) {
      if (std::binary_search(recent_.begin(), recent_.end(), candidate.token))
        candidate.probability = penalized(candidate.probability);
    }
    std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
      return a.probability > b.probability || (a.probability == b.probability && a.token < b.token);
    });
  }
  if (greedy()) return candidates_.front().token;
  if (options_.top_k < count) candidates_.resize(static_cast<size_t>(options_.top_k));
  return draw_among();
}

int Sampler::penalized_count(int recent_count) const noexcept {
  return options_.repeat_last < 0 ? recent_count : std::min(recent_count, options_.repeat_last);
}

void Sampler::keep_recent(const int32_t* recent, int recent_count) {
  recent_.assign(recent + recent_count - penalized_count(recent_count), recent + recent_count);
  std::sort(recent_.begin(), recent_.end());
  recent_.erase(std::unique(recent_.begin(), recent_.end()), recent_.end());
}

float Sampler::penalized(float logit) const noexcept {
  return logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
}

void Sampler::penalize(int n, const int32_t* recent, int recent_count) {
  keep_recent(recent, recent_count);
  for (const int32_t token : recent_) {
    if (token < 0 || token >= n) continue;
    float& value = values_[static_cast<size_t>(token)];
    value = penalized(value);
  }
}

float Sampler::least_share() const noexcept { return std::min(1.0f, std::max(0.0f, options_.min_p)); }

int Sampler::draw(int n) {
  const int k = options_.top_k;
  if (k > 0 && k < n) {
    scratch_.resize(static_cast<size_t>(n));
    indices_.resize(static_cast<size_t>(k));
    Team alone(1);
    backend_.top_k(values_.data(), n, k, kernels::Order::value, indices_.data(), scratch_.data(), alone);
    candidates_.clear();
    for (const int32_t token : indices_) candidates_.push_back({values_[static_cast<size_t>(token)], token});
    return draw_among();
  }
  if (!temper(n)) return 0;
  if (!(options_.top_p < 1 || least_share() > 0)) return draw_any(n);
  gather_candidates(n);
  return draw_thinned();
}

// Of candidates_, which hold their logits.
int Sampler::draw_among() {
  values_.clear();
  for (const Candidate& candidate : candidates_) values_.push_back(candidate.probability);
  if (!temper(static_cast<int>(values_.size()))) return 0;
  mass_ = 0;
  for (size_t i = 0; i < values_.size(); ++i) mass_ += candidates_[i].probability = values_[i];
  return draw_thinned();
}

// Of candidates_, which hold their probabilities.
int Sampler::draw_thinned() {
  if (options_.top_p < 1) keep_nucleus();
  if (least_share() > 0) drop_unlikely();
  return draw_candidate();
}

// values_: logits -> probabilities at the temperature. The largest is subtracted first, so that a tiny temperature
// overflows to probability 0 and never to NaN. False where there is nothing to choose from; a number is drawn all the
// same.
bool Sampler::temper(int n) {
  const float highest = values_[static_cast<size_t>(largest(values_.data(), n))];
  if (highest == kNone) {
    random_.next();
    return false;
  }
  const float factor = 1 / options_.temperature;
  for (float& value : values_) value = value == highest ? 0 : std::max(-1e30f, (value - highest) * factor);
  Team alone(1);
  backend_.softmax(values_.data(), 0, 1, n, values_.data(), 0, nullptr, alone);
  return true;
}

// All that can still matter: less than 1 - top_p of the mass lies in tokens below (1 - top_p) / n times it, and nothing
// is kept below min_p times the largest. Leaves in mass_ what top-p is a share of.
void Sampler::gather_candidates(int n) {
  candidates_.clear();
  mass_ = 0;
  for (int i = 0; i < n; i += kBlock) mass_ += block_mass(values_.data() + i, std::min(kBlock, n - i));
  const double rest = std::min(1.0, 1.0 - options_.top_p);
  float least = static_cast<float>(std::max(0.0, 0.99 * rest * mass_ / n));
  least = std::max(least, least_share() * values_[largest(values_.data(), n)]);
  for (int i = 0; i < n; ++i) {
    if (values_[i] >= least) candidates_.push_back({values_[i], i});
  }
}

// The fewest most probable candidates whose mass reaches top_p: their least probability is found by bisection over
// the bit patterns of floats, which for positive numbers have the order of the values. Each step puts one side aside,
// so a flat distribution costs a few passes and no sort. At least one is kept; of equals the first.
void Sampler::keep_nucleus() {
  rest_.clear();
  for (const Candidate& candidate : candidates_) rest_.push_back(candidate.probability);
  const auto [least, most] = std::minmax_element(rest_.begin(), rest_.end());
  uint32_t low = float_to_bits(*least), high = float_to_bits(*most);
  double wanted = options_.top_p * mass_;  // of what is left in rest_
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const float limit = bits_to_float(middle);
    const double above = mass_above(rest_.data(), rest_.size(), limit);
    const bool enough = above >= wanted;
    size_t kept = 0;
    for (const float value : rest_) {  // without a branch: no side is foreseeable
      rest_[kept] = value;
      kept += (value > limit) == enough;
    }
    rest_.resize(kept);
    if (enough) {
      low = middle + 1;
    } else {
      high = middle;
      wanted -= above;
    }
  }
  const float last = bits_to_float(high);
  size_t equals = 1;
  for (double mass = last; mass < wanted && equals < rest_.size(); mass += last) ++equals;
  const auto outside = [last, &equals](const Candidate& candidate) {
    if (candidate.probability != last || equals == 0) return candidate.probability <= last;
    --equals;
    return false;
  };
  candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), outside), candidates_.end());
}

void Sampler::drop_unlikely() {
  float top = 0;
  for (const Candidate& candidate : candidates_) top = std::max(top, candidate.probability);
  const float least = least_share() * top;
  const auto unlikely = [least](const Candidate& candidate) { return candidate.probability < least; };
  candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), unlikely), candidates_.end());
}

int Sampler::draw_candidate() {
  double mass = 0;
  for (const Candidate& candidate : candidates_) mass += candidate.probability;
  const double target = random_.uniform() * mass;
  mass = 0;
  for (const Candidate& candidate : candidates_) {
    mass += candidate.probability;
    if (mass > target) return candidate.token;  // the last sum is the mass itself, which is above the target
  }
  return candidates_.front().token;
}

int Sampler::draw_any(int n) {
  double mass = 0;
  for (int i = 0; i < n; i += kBlock) mass += block_mass(values_.data() + i, std::min(kBlock, n - i));
  const double target = random_.uniform() * mass;  // below mass, so a block is found, and one that is not all zero
  double before = 0;
  int block = 0;
  for (;; block += kBlock) {
    const double after = before + block_mass(values_.data() + block, std::min(kBlock, n - block));
    if (after > target || block + kBlock >= n) break;
    before = after;
  }
  int token = block;
  for (int i = block; i < std::min(n, block + kBlock); ++i) {
    if (!(values_[i] > 0)) continue;
    token = i;  // summed one by one the block may fall short of the target: then its last possible token
    before += values_[i];
    if (before > target) break;
  }
  return token;
}

}  // namespace tokensieve
