#include <algorithm>

#include "attention_answer.h"

using namespace kernel_test;

namespace {

const DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::kivi4, DType::kivi2};

// [n * heads][rows] probabilities, or [heads][rows] sums added to 2.
Matrix probe(Problem& problem, const Backend& backend, bool per_row, tokensieve::Team& team) {
  Matrix y = probe_room(problem, per_row);
  const AttentionJob job = problem.job(nullptr, 0, problem.spec().n);
  const Bytes scratch(backend.attention_probe_scratch(problem.shape(), job, team.size()), 0xff);
  backend.attention_probe(problem.shape(), job, per_row, y.data(), y.ld(), scratch.data(), team);
  return y;
}

void check_problem(Problem& problem, const std::string& note = "") {
  for (const bool per_row : {true, false}) {
    const Matrix want = expected_probe(problem, per_row);
    for (const Backend* backend : backends()) {
      const std::string what =
          std::string(backend->name) + (per_row ? " rows " : " sums ") + problem.spec().text() + " " + note;
      tokensieve::Team team(2);
      check_close(probe(problem, *backend, per_row, team), want, 3e-6, 2e-7, what);
    }
  }
}

}  // namespace

TEST("every type of keys, rotated or not") {
  for (const DType type : kTypes) {
    for (const int rotated : {0, 32}) {
      for (const bool ragged : {false, true}) {
        Spec spec;
        spec.keys = type;
        spec.n = 5;
        spec.rows = {75, 300};
        spec.rotated = rotated;
        spec.ragged = ragged;
        Problem problem(spec);
        check_problem(problem, ragged ? "ragged" : "");
      }
    }
  }
}

TEST("head sizes, groups, numbers of rows") {
  for (const int head_size : {16, 64, 80, 256}) {
    for (const int group : {1, 3, 4, 16}) {
      for (const int rows : {1, 17, 32, 500}) {
        for (const int n : {1, 32}) {
          Spec spec;
          spec.head_size = head_size;
          spec.group = group;
          spec.rows = {rows, 33};
          spec.n = n;
          Problem problem(spec);
          check_problem(problem);
        }
      }
    }
  }
}

TEST("many query rows: sums of whole chunks") {
  for (const int window : {0, 50}) {
    Spec spec;
    spec.n = 200;
    spec.rows = {310, 200};
    spec.head_size = 32;
    spec.window = window;
    Problem problem(spec);
    check_problem(problem, "window " + std::to_string(window));
  }
}

TEST("bias, and rows that see nothing") {
  Spec spec;
  spec.n = 9;
  spec.rows = {100, 40};
  spec.bias = true;
  Problem problem(spec);
  problem.end(0, 4) = 0;
  for (int i = 0; i < spec.n; ++i) problem.end(1, i) = problem.first(1, i) = i;
  check_problem(problem);
}

TEST("the sums of a row are 1, and the team changes nothing") {
  Spec spec;
  spec.n = 130;
  spec.rows = {700, 130};
  Problem problem(spec);
  for (const Backend* backend : backends()) {
    for (const bool per_row : {true, false}) {
      check_teams(std::string(backend->name) + " probe",
                  [&](tokensieve::Team& team) { return probe(problem, *backend, per_row, team); });
    }
    tokensieve::Team team(2);
    const Matrix y = probe(problem, *backend, true, team);
    for (int t = 0; t < y.rows(); t += 7) {
      double sum = 0;
      const int rows = problem.rows(t % 6 / 3);
      for (int j = 0; j < rows; ++j) sum += static_cast<double>(y.at(t, j));
      CHECK_NEAR(sum, 1, 1e-5);
    }
  }
}
