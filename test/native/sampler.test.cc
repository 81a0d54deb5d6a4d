#include "engine/sampler.h"

#include <algorithm>
#include <set>

#include "kernel_test.h"

using namespace kernel_test;
using tokensieve::Sampler;
using tokensieve::SamplerOptions;

namespace {

SamplerOptions at(float temperature, int top_k = 0, float top_p = 1, float min_p = 0, uint64_t seed = 7) {
  SamplerOptions options;
  options.temperature = temperature;
  options.top_k = top_k;
  options.top_p = top_p;
  options.min_p = min_p;
  options.seed = seed;
  return options;
}

int draw(Sampler& sampler, const std::vector<float>& logits) {
  return sampler.sample(logits.data(), static_cast<int>(logits.size()), nullptr, 0);
}

std::vector<float> logs(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + 3));
  return logits;
}

// Every token of the distribution as often as it should be, within five standard deviations; no other at all.
void check_distribution(const SamplerOptions& options, const std::vector<float>& logits,
                        const std::vector<double>& want) {
  const int draws = 20000;
  for (const Backend* backend : backends()) {
    Sampler sampler(*backend, options);
    std::vector<int> counts(logits.size(), 0);
    for (int i = 0; i < draws; ++i) ++counts[static_cast<size_t>(draw(sampler, logits))];
    for (size_t i = 0; i < want.size(); ++i) {
      const double deviation = std::sqrt(draws * want[i] * (1 - want[i]));
      CHECK_NEAR(counts[i], draws * want[i], 5 * deviation + 1e-9);
    }
  }
}

std::set<int> support(const SamplerOptions& options, const std::vector<float>& logits, int draws = 3000) {
  Sampler sampler(*backends().front(), options);
  std::set<int> seen;
  for (int i = 0; i < draws; ++i) seen.insert(draw(sampler, logits));
  return seen;
}

const std::vector<double> kFive = {0.1, 0.4, 0.05, 0.25, 0.2};

}  // namespace

TEST("greedy takes the first of the largest and draws no number") {
  for (const Backend* backend : backends()) {
    Sampler sampler(*backend, at(0));
    const tokensieve::Random::State before = sampler.state();
    CHECK_EQ(draw(sampler, {1, 3, NAN, 3, 2}), 1);
    CHECK_EQ(draw(sampler, {NAN, NAN}), 0);
    CHECK_EQ(draw(sampler, {-INFINITY, -INFINITY, -1e30f}), 2);
    CHECK_EQ(draw(sampler, {-INFINITY}), 0);
    CHECK(std::memcmp(&before, &sampler.state(), sizeof before) == 0);
  }
}

TEST("temperature 1 draws the distribution itself") { check_distribution(at(1), logs(kFive), kFive); }

TEST("temperature sharpens and flattens") {
  for (const double temperature : {0.5, 2.0}) {
    std::vector<double> want;
    double sum = 0;
    for (const double p : kFive) sum += std::pow(p, 1 / temperature);
    for (const double p : kFive) want.push_back(std::pow(p, 1 / temperature) / sum);
    check_distribution(at(static_cast<float>(temperature)), logs(kFive), want);
  }
}

TEST("top-k, top-p and min-p keep what they should, renormalized") {
  check_distribution(at(1, 2), logs(kFive), {0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});
  check_distribution(at(1, 0, 0.8f), logs(kFive), {0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85});  // 0.65 < 0.8 <= 0.85
  check_distribution(at(1, 0, 1, 0.3f), logs(kFive), {0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85});
  // of the two that top-k leaves, the first alone is 0.615 of the mass
  check_distribution(at(1, 2, 0.6f), logs(kFive), {0, 1, 0, 0, 0});
  check_distribution(at(1, 4, 0.9f, 0.55f), logs(kFive), {0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});
}

TEST("edges of the options") {
  const std::vector<float> logits = logs(kFive);
  using Set = std::set<int>;
  CHECK(support(at(1, 1), logits) == Set{1});
  CHECK(support(at(1, 5), logits).size() == 5);
  CHECK(support(at(1, 99), logits).size() == 5);
  CHECK(support(at(1, -1), logits).size() == 5);
  CHECK(support(at(1, 0, 0), logits) == Set{1});
  CHECK(support(at(1, 0, -1), logits) == Set{1});
  CHECK(support(at(1, 0, 1e-6f), logits) == Set{1});
  CHECK(support(at(1, 0, 0.999999f), logits).size() == 5);
  CHECK(support(at(1, 0, 1, 1), logits) == Set{1});
  CHECK(support(at(1, 0, 1, 5), logits) == Set{1});
  CHECK(support(at(1, 0, 1, 1e-6f), logits).size() == 5);
  CHECK(support(at(1e-30f), logits) == Set{1});
  CHECK(support(at(1e30f), {0, 50, -INFINITY, -50}) == (Set{0, 1, 3}));
  CHECK(support(at(1, 3), {1, 1, 1, 1, 1}) == (Set{0, 1, 2}));  // ties: the lower ids
  CHECK(support(at(1, 0, 0.5f), {1, 1, 1, 1}) == (Set{0, 1}));
  CHECK(support(at(1, 0, 1, 1), {1, 2, 2, 0}) == (Set{1, 2}));
}

TEST("logits that are no numbers") {
  using Set = std::set<int>;
  for (const SamplerOptions& options : {at(1), at(1, 3), at(1, 0, 0.9f), at(1, 0, 1, 0.1f), at(1, 2, 0.9f, 0.1f)}) {
    CHECK(support(options, {NAN, -INFINITY, NAN}) == Set{0});
    CHECK(support(options, {NAN, -INFINITY, -4, NAN}) == Set{2});
    CHECK(support(options, {1, INFINITY, 3, NAN}) == Set{1});
    CHECK(support(options, {-3e38f, 3e38f}) == Set{1});
    CHECK(support(options, {2}) == Set{0});
  }
}

TEST("repeat penalty: each recent token once, within the window, by its sign") {
  SamplerOptions options = at(0);
  options.repeat_penalty = 2;
  options.repeat_last = 3;
  for (const Backend* backend : backends()) {
    Sampler sampler(*backend, options);
    const float logits[5] = {4, 3, 1.9f, -1, 3.5f};
    const int32_t recent[6] = {4, 4, 0, 0, 0, 0};  // token 4 is older than the window; 0 becomes 2, not 0.5
    CHECK_EQ(sampler.sample(logits, 5, recent, 6), 4);
    const int32_t all[3] = {0, 1, 4};
    CHECK_EQ(sampler.sample(logits, 5, all, 3), 0);  // 2 against 1.5, 1.75, 1.9
    const int32_t strange[3] = {-1, 5, 1 << 30};
    CHECK_EQ(sampler.sample(logits, 5, strange, 3), 0);
    const float negative[2] = {-1, -1.5f};
    const int32_t first[1] = {0};
    CHECK_EQ(sampler.sample(negative, 2, first, 1), 1);
  }
}

TEST("the log-probability is of the logits as they came") {
  SamplerOptions options = at(0.1f, 2);
  options.repeat_penalty = 3;
  const std::vector<float> logits = logs(kFive);
  const int32_t recent[2] = {1, 3};
  for (const Backend* backend : backends()) {
    for (const float temperature : {0.0f, 0.1f, 1.0f}) {
      options.temperature = temperature;
      Sampler sampler(*backend, options);
      float log_probability = 0;
      const int token = sampler.sample(logits.data(), 5, recent, 2, &log_probability);
      CHECK_NEAR(log_probability, std::log(kFive[static_cast<size_t>(token)]), 1e-6);
    }
    Sampler sampler(*backend, at(1));
    const float nothing[2] = {NAN, -INFINITY};
    float log_probability = 0;
    CHECK_EQ(sampler.sample(nothing, 2, nullptr, 0, &log_probability), 0);
    CHECK_EQ(log_probability, -INFINITY);
  }
}

TEST("a seed and a saved state repeat the draws; one number a draw") {
  check::Random random(1);
  const std::vector<float> logits = random.normals(500);
  for (const Backend* backend : backends()) {
    Sampler a(*backend, at(1)), b(*backend, at(1)), other(*backend, at(1, 0, 1, 0, 8));
    std::vector<int> first, second, third, again;
    for (int i = 0; i < 50; ++i) first.push_back(draw(a, logits));
    for (int i = 0; i < 50; ++i) second.push_back(draw(b, logits));
    for (int i = 0; i < 50; ++i) third.push_back(draw(other, logits));
    CHECK(first == second);
    CHECK(first != third);
    const tokensieve::Random::State saved = a.state();
    draw(a, {NAN});
    draw(a, {1});
    tokensieve::Random clock(saved);
    clock.next();
    clock.next();
    CHECK(std::memcmp(&clock.state(), &a.state(), sizeof saved) == 0);
    a.set_state(saved);
    b.set_state(saved);
    first.clear();
    for (int i = 0; i < 50; ++i) first.push_back(draw(a, logits));
    for (int i = 0; i < 50; ++i) again.push_back(draw(b, logits));
    CHECK(first == again);
  }
}

// What a card does: the largest logits in the order of kernel top_k, and nothing of the others.
TEST("the candidates alone give the token, and leave the generator as all logits do") {
  check::Random random(4);
  std::vector<int32_t> recent;
  for (int i = 0; i < 90; ++i) recent.push_back(static_cast<int32_t>(random.below(330)) - 10);
  SamplerOptions greedy = at(0), wide = at(2, 200), sharp = at(0.02f, 3), thin = at(1, 40, 0.9f, 0.02f), one = at(1, 1);
  for (SamplerOptions options : {greedy, wide, sharp, thin, one}) {
    for (const float penalty : {1.0f, 1.3f, 40.0f}) {
      options.repeat_penalty = penalty;
      Sampler all(*backends().front(), options), few(*backends().front(), options);
      for (int round = 0; round < 40; ++round) {
        std::vector<float> logits = random.normals(300), values;
        for (float& x : logits) x = round % 2 ? std::round(2 * x) : random.below(20) == 0 ? NAN : 3 * x;
        if (round == 38) logits.assign(300, NAN);
        const int count = few.candidates(300, round);
        CHECK(count == (options.temperature > 0 ? options.top_k : 1) + (penalty > 1 ? std::min(round, 64) : 0));
        std::vector<int32_t> tokens(static_cast<size_t>(count));
        std::vector<uint64_t> scratch(300);
        tokensieve::kernels::reference_backend().top_k(logits.data(), 300, count, tokensieve::kernels::Order::value,
                                                       tokens.data(), scratch.data(), alone);
        for (const int32_t token : tokens) values.push_back(logits[static_cast<size_t>(token)]);
        CHECK_EQ(few.sample_among(values.data(), tokens.data(), count, recent.data(), round),
                 all.sample(logits.data(), 300, recent.data(), round));
        CHECK(std::memcmp(&few.state(), &all.state(), sizeof few.state()) == 0);
      }
    }
  }
}

TEST("where all logits may decide there are no fewer candidates") {
  SamplerOptions likelier = at(0);
  likelier.repeat_penalty = 0.5f;
  const Backend& backend = *backends().front();
  CHECK_EQ(Sampler(backend, at(1)).candidates(100, 5), 100);
  CHECK_EQ(Sampler(backend, at(1, 0, 0.9f)).candidates(100, 5), 100);
  CHECK_EQ(Sampler(backend, at(1, 100)).candidates(100, 5), 100);
  CHECK_EQ(Sampler(backend, likelier).candidates(100, 5), 100);
  CHECK_EQ(Sampler(backend, likelier).candidates(100, 0), 1);
  CHECK_EQ(Sampler(backend, at(0)).candidates(1, 0), 1);
}

// xoshiro256** after splitmix64 of 0: the first word of the state is splitmix64's published first output.
TEST("the generator is the published one") {
  const tokensieve::Random random(0);
  CHECK(random.state().words[0] == 0xe220a8397b1dcdafu);
  tokensieve::Random counted(tokensieve::Random::State{{1, 2, 3, 4}});
  CHECK(counted.next() == 11520u);
  CHECK(counted.next() == 0u);
  CHECK(counted.next() == 1509978240u);
}

namespace {

std::set<int> nucleus_by_sorting(const std::vector<float>& logits, double share) {
  std::vector<std::pair<double, int>> sorted;
  double sum = 0, mass = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    sorted.push_back({-std::exp(static_cast<double>(logits[i])), static_cast<int>(i)});
    sum -= sorted.back().first;
  }
  std::sort(sorted.begin(), sorted.end());
  std::set<int> nucleus;
  for (const auto& [weight, token] : sorted) {
    if (mass >= share * sum) break;
    mass -= weight;
    nucleus.insert(token);
  }
  return nucleus;
}

}  // namespace

TEST("the nucleus is exactly what a full sort gives") {
  check::Random random(2);
  for (int round = 0; round < 12; ++round) {
    std::vector<float> logits = random.normals(60);
    if (round % 2) {
      for (float& x : logits) x = std::round(x);  // many equal: the lower ids belong to it
    }
    const float share = 0.2f + 0.05f * static_cast<float>(round);
    CHECK(support(at(1, 0, share), logits, 30000) == nucleus_by_sorting(logits, share));
  }
}

TEST("the nucleus of a vocabulary, peaked and flat") {
  check::Random random(3);
  for (const float scale : {3.0f, 0.5f}) {
    std::vector<float> logits = random.normals(50000);
    for (float& x : logits) x *= scale;
    const std::set<int> nucleus = nucleus_by_sorting(logits, 0.3f), seen = support(at(1, 0, 0.3f), logits, 300);
    CHECK(std::includes(nucleus.begin(), nucleus.end(), seen.begin(), seen.end()));
    CHECK(seen.size() > std::min<size_t>(nucleus.size(), 100) / 2);
  }
}
