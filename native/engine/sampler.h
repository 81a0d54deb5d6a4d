// From logits to a token. The order is the field's: repeat penalty, temperature, top-k, top-p, min-p, draw.
//
//   repeat penalty  logits of the last `repeat_last` tokens, each once: divided if positive, else multiplied
//   temperature     logits / temperature; <= 0: the largest logit, no draw
//   top-k           the k largest; <= 0: all
//   top-p           of what is left, renormalized: the fewest most probable tokens whose mass reaches top_p; >= 1: all
//   min-p           of what is left: those with at least min_p times the largest probability; <= 0: all
//
// Equal logits: the lower id first. NaN counts as -infinity; where every logit is -infinity the token is 0. Masses are
// summed in double in a fixed order, and a draw takes exactly one number of the generator, so a seed repeats a text.
// What top-k leaves out has no part in what follows: the largest logits alone give the same token, bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace tokensieve {

struct SamplerOptions {
  float temperature = 0;
  int top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repeat_penalty = 1;
  int repeat_last = 64;
  uint64_t seed = 0;
};

// xoshiro256**, seeded by splitmix64.
class Random {
 public:
  struct State {
    uint64_t words[4];
  };

  explicit Random(uint64_t seed) noexcept;
  explicit Random(const State& state) noexcept : state_(state) {}
  const State& state() const noexcept { return state_; }
  uint64_t next() noexcept;
  double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }  // in [0, 1)

 private:
  State state_;
};

class Sampler {
 public:
  Sampler(const kernels::Backend& backend, const SamplerOptions& options);

  // logits [n], n >= 1; recent [recent_count]: the session's tokens so far, newest last (ids outside [0, n) count not).
  // log_probability, where asked: of the chosen token under the logits as they came (no penalty, temperature 1).
  int sample(const float* logits, int n, const int32_t* recent, int recent_count, float* log_probability = nullptr);

  // How many of n logits, the largest, decide the token where no log-probability is asked; n where all may. A penalty
  // above 1 makes recent tokens less likely, so that those after them move up.
  int candidates(int n, int recent_count) const noexcept;
  // sample, of the `count` largest logits (at least `candidates`): in the order of kernel top_k, with their tokens.
  int sample_among(const float* logits, const int32_t* tokens, int count, const int32_t* recent, int recent_count);

  // The token would be that of the largest logit, whatever the others are.
  bool takes_largest(int recent_count) const noexcept { return greedy() && !penalizes(recent_count); }

  const Random::State& state() const noexcept { return random_.state(); }
  void set_state(const Random::State& state) noexcept { random_ = Random(state); }

 private:
  struct Candidate {
    float probability;  // first the logit
    int32_t token;
  };

  bool greedy() const noexcept { return !(options_.temperature > 0); }
  bool penalizes(int recent_count) const noexcept {
    return options_.repeat_penalty != 1 && options_.repeat_last != 0 && recent_count > 0;
  }
  int penalized_count(int recent_count) const noexcept;
  void keep_recent(const int32_t* recent, int recent_count);
  float penalized(float logit) const noexcept;
  void penalize(int n, const int32_t* recent, int recent_count);
  int largest(const float* values, int n) const noexcept;
  float least_share() const noexcept;
  bool temper(int n);
  int draw(int n);
  int draw_among();
  int draw_thinned();
  void gather_candidates(int n);
  void keep_nucleus();
  void drop_unlikely();
  int draw_candidate();
  int draw_any(int n);

  const kernels::Backend& backend_;
  SamplerOptions options_;
  Random random_;
  std::vector<float> values_;  // [n] logits, then probabilities
  std::vector<int32_t> recent_;  // distinct recent tokens
  std::vector<Candidate> candidates_;
  double mass_ = 0;
  std::vector<float> rest_;  // probabilities among which the nucleus ends
  std::vector<uint64_t> scratch_;
  std::vector<int32_t> indices_;
};

}  // namespace tokensieve
