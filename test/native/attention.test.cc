#include <algorithm>

#include "attention_answer.h"

using namespace kernel_test;

namespace {

const DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::kivi4, DType::kivi2};

// Where q, keys, values and probabilities of a prompt are rounded: to int8, or to bf16.
bool has_float(const Spec& spec) { return spec.n <= 4 || spec.keys == DType::f32 || spec.values == DType::f32; }
bool ints(const Backend& backend, const Spec& spec) {
  return !has_float(spec) && !spec.fine && check::attends_in_int8(backend.name);
}
bool pairs(const Backend& backend, const Spec& spec) {
  return !has_float(spec) && std::strcmp(backend.name, "avx512-vnni-bf16") == 0;
}

bool quantized(DType type) { return type != DType::f32 && type != DType::f16 && type != DType::bf16; }

// Random rows of unit variance; errors grow with them.
Allowed allowed(const Backend& backend, const Spec& spec) {
  // A row of unit variance is rounded to about 3 / 127: scores are off by .01 in the mean, 4.5 times that at most.
  if (ints(backend, spec)) return {4.5e-2, 4.5e-2, 0, 1e-3, 1e-2};
  if (pairs(backend, spec)) return {2e-2, 2e-2, 4e-3, 1e-3, 5e-3};
  const bool exact = spec.n > 4 || std::strcmp(backend.name, "reference") == 0;
  const bool query = !exact && quantized(spec.keys) && spec.rotated == 0;  // becomes integers, and p:
  if (query && spec.keys == DType::q4_0) return {1e-2, 6e-3, 2e-6, 1e-3, 0};
  if (query || (!exact && quantized(spec.values))) return {3e-4, 2e-4, 2e-6, 1e-4, 0};
  return {4e-6, 3e-6, 2e-6, 2e-6, 2e-6};
}

void check_problem(Problem& problem, const Backend& backend, const std::string& note = "") {
  const Spec& spec = problem.spec();
  const Answer want = problem.expected();
  tokensieve::Team team(2);
  const Answer got = problem.run(backend, team);
  const std::string what = std::string(backend.name) + " " + spec.text() + " " + note;
  const Allowed most = allowed(backend, spec);
  check_answer(got, want, most, what);
}

void check_spec(Spec spec, const std::string& note = "") {
  for (const bool fine : {false, true}) {
    if (fine && spec.n <= 4) return;
    spec.fine = fine;
    Problem problem(spec);
    for (const Backend* backend : backends()) check_problem(problem, *backend, note + (fine ? " fine" : ""));
  }
}

}  // namespace

TEST("every pair of types, whole pages and pieces cut anywhere") {
  for (const DType keys : kTypes) {
    for (const DType values : kTypes) {
      for (const int n : {1, 3, 7}) {
        Spec spec;
        spec.keys = keys;
        spec.values = values;
        spec.n = n;
        spec.rows = {75, 300};
        check_spec(spec);
        spec.ragged = true;
        check_spec(spec, "ragged");
      }
    }
  }
}

TEST("head sizes and groups") {
  for (const int head_size : {16, 32, 64, 80, 96, 128, 256}) {
    for (const int group : {1, 2, 3, 4, 5, 7, 8, 16}) {
      for (const int n : {1, 5}) {
        Spec spec;
        spec.head_size = head_size;
        spec.group = group;
        spec.n = n;
        spec.kv_heads = 1;
        spec.rows = {70};
        spec.keys = head_size % 32 == 0 ? DType::q4_0 : DType::f16;
        spec.values = head_size % 32 == 0 ? DType::q8_0 : DType::bf16;
        check_spec(spec);
        spec.keys = spec.values = DType::f32;
        check_spec(spec);
      }
    }
  }
}

TEST("numbers of rows around blocks, pages, tiles and splits, and numbers of query rows around tiles") {
  for (const int rows : {1, 15, 16, 17, 31, 32, 33, 100, 127, 129, 255, 256, 257, 511, 512, 513, 1500}) {
    for (const int n : {1, 2, 4, 5, 23, 24, 25, 100}) {
      if (n > 25 && rows > 513) continue;
      Spec spec;
      spec.rows = {rows, std::max(1, rows / 3)};
      spec.n = n;
      spec.head_size = 32;
      spec.values = DType::q8_0;
      check_spec(spec);
    }
  }
}

TEST("windows, rows that see nothing, bias that drops rows, mass") {
  for (const int n : {1, 4, 30}) {
    for (const int window : {0, 1, 20, 300}) {
      Spec spec;
      spec.n = n;
      spec.rows = {700, 40, 333};
      spec.kv_heads = 3;
      spec.window = window;
      spec.bias = spec.mass = true;
      spec.ragged = true;
      Problem problem(spec);
      problem.end(1, 0) = problem.first(1, 0) = 0;
      problem.first(2, n - 1) = 333;
      problem.first(0, n / 2) = 3;  // only a row that the bias drops
      problem.end(0, n / 2) = 4;
      for (const Backend* backend : backends()) check_problem(problem, *backend, "window " + std::to_string(window));
    }
  }
}

TEST("mass of a prompt in every type, rotated, with windows") {
  for (const DType type : kTypes) {
    for (const int window : {0, 150}) {
      Spec spec;
      spec.keys = spec.values = type;
      spec.mass = true;
      spec.window = window;
      spec.n = 213;
      spec.rows = {400, 213};
      spec.rotated = window ? 64 : 0;
      check_spec(spec, "mass");
    }
  }
}

// In int8 such a key would leave 4 steps to the other channels, which is off by .3. What its own channel adds to all
// scores of a query row is rounded with it, which lse alone shows.
TEST("keys that one channel holds most of, as they are and turned, with values that are next to nothing") {
  for (const bool turned : {false, true}) {
    for (const int head_size : {32, 64, 96, 256}) {
      if (turned && head_size == 96) continue;
      Spec spec;
      spec.n = 40;
      spec.rows = {40, 300};
      spec.head_size = head_size;
      spec.loud = 30;
      spec.turned = turned;
      spec.first = 1e-4f;
      Problem problem(spec);
      const Answer want = problem.expected();
      for (const Backend* backend : backends()) {
        tokensieve::Team team(2);
        const Answer got = problem.run(*backend, team);
        check_answer(got, want, {8e-2, 2e-1, 0, 0, 0}, std::string(backend->name) + " loud " + spec.text());
      }
    }
  }
}

TEST("a head whose rows no query row sees") {
  for (const int n : {1, 6}) {
    Spec spec;
    spec.n = n;
    spec.mass = true;
    Problem problem(spec);
    for (int i = 0; i < n; ++i) problem.end(1, i) = 0;
    for (const Backend* backend : backends()) {
      check_problem(problem, *backend);
      tokensieve::Team team(1);
      const Answer got = problem.run(*backend, team);
      CHECK_EQ(got.out.at(0, 3 * 64), 0);
      CHECK_EQ(got.lse.at(n - 1, 5), -INFINITY);
    }
  }
}

TEST("keys rotated when read") {
  for (const DType type : kTypes) {
    for (const int n : {1, 4, 9}) {
      Spec spec;
      spec.keys = type;
      spec.n = n;
      spec.rotated = type == DType::q8_0 ? 32 : 64;
      spec.rows = {291, 77};
      check_spec(spec, "rotated");
      spec.ragged = true;
      check_spec(spec, "rotated ragged");
    }
  }
}

TEST("the mass of n query rows is n") {
  for (const Backend* backend : backends()) {
    for (const int n : {1, 2, 4, 5, 130}) {
      Spec spec;
      spec.n = n;
      spec.mass = true;
      spec.rows = {1000, 130};
      Problem problem(spec);
      tokensieve::Team team(2);
      const Answer got = problem.run(*backend, team);
      for (const std::vector<float>& mass : got.mass) {
        double sum = 0;
        for (const float m : mass) sum += static_cast<double>(m - 0.5f);
        CHECK_NEAR(sum, n, n > 4 ? 2e-3 * n : 1e-4);
      }
    }
  }
}

TEST("neither the team nor the batch changes a bit") {
  Spec specs[4];
  specs[0].n = 1, specs[0].rows = {1300, 40}, specs[0].mass = true;
  specs[1].n = 3, specs[1].rows = {600}, specs[1].keys = DType::q4_0, specs[1].values = DType::q8_0,
  specs[1].bias = true;
  specs[2].n = 137, specs[2].rows = {450, 300}, specs[2].ragged = specs[2].mass = true;
  specs[3].n = 9, specs[3].rows = {64}, specs[3].keys = DType::kivi2, specs[3].values = DType::f32;
  for (const Backend* backend : backends()) {
    std::vector<Problem> problems(std::begin(specs), std::end(specs));
    std::vector<Answer> alone;
    for (Problem& problem : problems) {
      tokensieve::Team one(1);
      alone.push_back(problem.run(*backend, one));
      for (const int threads : {2, 3}) {
        tokensieve::Team team(threads);
        CHECK(problem.run(*backend, team).same_bits(alone.back()));
      }
    }
    for (const int threads : {1, 3}) {
      std::vector<Answer> together;
      std::vector<AttentionJob> jobs;
      for (Problem& problem : problems) together.push_back(problem.empty());
      for (size_t i = 0; i < problems.size(); ++i) jobs.push_back(problems[i].job(&together[i], 0, specs[i].n));
      tokensieve::Team team(threads);
      Problem::run_jobs(*backend, problems[0].shape(), jobs, team);
      for (size_t i = 0; i < problems.size(); ++i) CHECK(together[i].same_bits(alone[i]));
    }
  }
}

TEST("a prompt's rows do not depend on how it is cut into chunks") {
  for (const DType type : {DType::f16, DType::f32, DType::q4_0}) {
    for (const int window : {0, 200}) {
      Spec spec;
      spec.n = 587;
      spec.rows = {587};
      spec.kv_heads = 1;
      spec.window = window;
      spec.keys = spec.values = type;
      spec.head_size = 32;
      Problem problem(spec);
      for (const Backend* backend : backends()) {
        tokensieve::Team team(2);
        const Answer whole = problem.run(*backend, team);
        for (const int from : {100, 512, 570, 582}) {
          const Answer part = problem.run(*backend, team, from, 587);
          bool same = true;
          for (int i = from; i < 587; ++i) {
            same = same && std::memcmp(&part.out.at(i - from, 0), &whole.out.at(i, 0), 4 * 3 * 32) == 0 &&
                   std::memcmp(&part.lse.at(i - from, 0), &whole.lse.at(i, 0), 4 * 3) == 0;
          }
          CHECK(same);
        }
      }
    }
  }
}

TEST("a decoded row does not depend on those decoded with it") {
  for (const DType type : kTypes) {
    Spec spec;
    spec.n = 4;
    spec.rows = {600, 31};
    spec.window = 350;
    spec.keys = spec.values = type;
    spec.ragged = true;
    Problem problem(spec);
    for (const Backend* backend : backends()) {
      tokensieve::Team team(1);
      const Answer together = problem.run(*backend, team);
      for (int i = 0; i < 4; ++i) {
        const Answer one = problem.run(*backend, team, i, i + 1);
        CHECK(std::memcmp(&one.out.at(0, 0), &together.out.at(i, 0), 4 * 6 * 64) == 0);
        CHECK(std::memcmp(&one.lse.at(0, 0), &together.lse.at(i, 0), 4 * 6) == 0);
      }
    }
  }
}
