// Attention on the emulated device: the cases of attention.test.cc, fewer and smaller. A block of the decode path is a
// split of 256 rows; one of the prefill path 64 query rows of a group, which walks over tiles of 64 (32) cache rows.
#include "attention_answer.h"
#include "cuda_team.h"
#include "simt/simt.h"

using namespace kernel_test;

namespace {

const DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::kivi4, DType::kivi2};

// n > 4: q, keys, values and probabilities are rounded to bf16.
Allowed allowed(const Spec& spec) {
  if (spec.n > 4) return {2e-2, 2e-2, 4e-3, 1e-3, 5e-3};
  return {4e-6, 3e-6, 2e-6, 2e-6, 2e-6};
}

Answer run(Problem& problem, int from = 0, int to = -1) {
  DeviceTeam device;
  Answer answer = problem.empty();
  std::vector<AttentionJob> jobs = {problem.job(&answer, from, to < 0 ? problem.spec().n : to)};
  const Backend& cuda = device.backend();
  const Bytes scratch(cuda.attention_scratch(problem.shape(), jobs.data(), 1, 1), 0xff);
  cuda.attention(problem.shape(), jobs.data(), 1, scratch.data(), device.team());
  jobs[0] = {};  // the call has what it needs
  device.wait();
  return answer;
}

void check_problem(Problem& problem, const std::string& note = "") {
  const Spec& spec = problem.spec();
  const Answer want = problem.expected();
  const Allowed most = allowed(spec);
  const std::string what = spec.text() + " " + note;
  simt::each_schedule([&] {
    const Answer got = run(problem);
    check_answer(got, want, most, what);
  });
}

void check_spec(const Spec& spec, const std::string& note = "") {
  Problem problem(spec);
  check_problem(problem, note);
}

}  // namespace

TEST("every type, whole pages and pieces cut anywhere, rotated or not") {
  for (const DType type : kTypes) {
    for (const int n : {1, 3, 7}) {
      Spec spec;
      spec.keys = type;
      spec.values = n == 3 ? DType::q8_0 : type;
      spec.kv_heads = 1;
      spec.n = n;
      spec.head_size = 32;
      spec.rows = {n == 7 ? 75 : 300};
      spec.rotated = n == 3 ? 32 : 0;
      check_spec(spec);
      spec.ragged = true;
      spec.rotated = n == 7 ? 16 : 0;
      check_spec(spec, "ragged");
    }
  }
}

TEST("head sizes and groups") {
  for (const int head_size : {16, 80, 128, 160, 256}) {
    for (const int group : {1, 6}) {
      for (const int n : {1, 5}) {
        if (n == 5 && group != 1 && head_size > 16) continue;
        Spec spec;
        spec.head_size = head_size;
        spec.group = group;
        spec.n = n;
        spec.kv_heads = 1;
        spec.rows = {40};
        spec.keys = head_size % 32 == 0 ? DType::q4_0 : DType::f16;
        spec.values = head_size % 32 == 0 ? DType::kivi2 : DType::bf16;
        check_spec(spec);
      }
    }
  }
}

TEST("numbers of rows around pages, tiles and splits, and of query rows around the paths and tiles") {
  for (const int rows : {1, 31, 64, 65, 256, 257, 2100}) {
    for (const int n : {1, 4, 5, 23}) {
      if (n > 4 && rows > 70) continue;
      Spec spec;
      spec.rows = {rows};
      spec.kv_heads = 1;
      spec.n = n;
      spec.head_size = 16;
      check_spec(spec);
    }
  }
}

TEST("windows, rows that see nothing, bias that drops rows, mass") {
  for (const int n : {1, 4, 30}) {
    for (const int window : {0, 1, 300}) {
      Spec spec;
      spec.n = n;
      spec.head_size = 16;
      spec.rows = {600, 40};
      if (n == 30) spec.rows = {130, 40};
      spec.window = window;
      spec.bias = spec.mass = true;
      spec.ragged = true;
      Problem problem(spec);
      problem.end(1, 0) = problem.first(1, 0) = 0;
      problem.first(0, n / 2) = 3;  // only a row that the bias drops
      problem.end(0, n / 2) = 4;
      check_problem(problem, "window " + std::to_string(window));
    }
  }
}

TEST("neither the batch nor the schedule changes a bit") {
  Spec specs[3];
  specs[0].n = 1, specs[0].rows = {700, 40}, specs[0].mass = true;
  specs[1].n = 3, specs[1].rows = {300}, specs[1].keys = DType::q4_0, specs[1].values = DType::q8_0,
  specs[1].bias = true;
  specs[2].n = 37, specs[2].rows = {90, 60}, specs[2].ragged = specs[2].mass = true;
  std::vector<Problem> problems;
  std::vector<Answer> alone;
  for (Spec& spec : specs) {
    spec.head_size = 32;
    problems.emplace_back(spec);
    alone.push_back(run(problems.back()));
  }
  simt::each_schedule([&] {
    std::vector<Answer> together;
    std::vector<AttentionJob> jobs;
    for (Problem& problem : problems) together.push_back(problem.empty());
    for (size_t i = 0; i < problems.size(); ++i) jobs.push_back(problems[i].job(&together[i], 0, specs[i].n));
    DeviceTeam device;
    const int count = static_cast<int>(jobs.size());
    const AttentionShape& shape = problems[0].shape();
    const Bytes scratch(device.backend().attention_scratch(shape, jobs.data(), count, 1), 0xff);
    device.backend().attention(shape, jobs.data(), count, scratch.data(), device.team());
    device.wait();
    for (size_t i = 0; i < problems.size(); ++i) CHECK(together[i].same_bits(alone[i]));
  });
}

TEST("segments of the cache: the same bits from one block as from one for each") {
  Spec spec;
  spec.n = 5;
  spec.rows = {2100};
  spec.kv_heads = 1;
  spec.group = 1;
  spec.head_size = 16;
  spec.mass = true;
  Problem problem(spec);
  problem.first(0, 1) = 1100;  // sees nothing of the first
  problem.end(0, 2) = 0;
  check_problem(problem);
  const Answer apart = run(problem);
  Spec many;  // so many tiles that each is done whole
  many.n = 64;
  many.rows = {64};
  many.kv_heads = 1;
  many.group = 1;
  many.head_size = 16;
  Problem filler(many);
  Answer none = filler.empty(), whole = problem.empty();
  for (int i = 0; i < 64; ++i) filler.end(0, i) = 0;
  std::vector<AttentionJob> jobs(256, filler.job(&none, 0, 64));
  jobs.push_back(problem.job(&whole, 0, 5));
  DeviceTeam device;
  const int count = static_cast<int>(jobs.size());
  const Bytes scratch(device.backend().attention_scratch(problem.shape(), jobs.data(), count, 1), 0xff);
  device.backend().attention(problem.shape(), jobs.data(), count, scratch.data(), device.team());
  device.wait();
  CHECK(whole.same_bits(apart));
}

TEST("a row does not depend on those that are computed with it") {
  for (const int n : {4, 150}) {
    Spec spec;
    spec.n = n;
    spec.rows = {n == 4 ? 600 : 150};
    spec.kv_heads = 1;
    spec.head_size = 16;
    spec.window = 100;
    spec.ragged = true;
    Problem problem(spec);
    const Answer whole = run(problem);
    for (const int from : {1, 3, 61, 140}) {
      if (from >= n) continue;
      const Answer part = run(problem, from, n);
      bool same = true;
      for (int i = from; i < n; ++i) {
        same = same && std::memcmp(&part.out.at(i - from, 0), &whole.out.at(i, 0), 4 * 3 * 16) == 0 &&
               std::memcmp(&part.lse.at(i - from, 0), &whole.lse.at(i, 0), 4 * 3) == 0;
      }
      CHECK(same);
    }
  }
}
