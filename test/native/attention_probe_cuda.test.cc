// The probe on the emulated device, where a block takes 256 cache rows of one query head and 8 query rows at a time.
#include "attention_answer.h"
#include "cuda_team.h"
#include "simt/simt.h"

using namespace kernel_test;

namespace {

void check_problem(Problem& problem, const std::string& note) {
  for (const bool per_row : {true, false}) {
    const Matrix want = expected_probe(problem, per_row);
    simt::each_schedule([&] {
      DeviceTeam device;
      Matrix got = probe_room(problem, per_row);
      AttentionJob job = problem.job(nullptr, 0, problem.spec().n);
      const Bytes scratch(device.backend().attention_probe_scratch(problem.shape(), job, 1), 0xff);
      device.backend().attention_probe(problem.shape(), job, per_row, got.data(), got.ld(), scratch.data(),
                                       device.team());
      job = {};
      device.wait();
      check_close(got, want, 3e-6, 2e-7, (per_row ? "rows " : "sums ") + problem.spec().text() + " " + note);
    });
  }
}

}  // namespace

TEST("every type of keys, whole or ragged, rotated or not") {
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::kivi4, DType::kivi2}) {
    for (const bool ragged : {false, true}) {
      Spec spec;
      spec.keys = type;
      spec.group = ragged ? 2 : 1;
      spec.n = ragged ? 5 : 9;
      spec.head_size = 32;
      spec.rows = {ragged ? 75 : 300, 20};
      spec.rotated = ragged ? 16 : 0;
      spec.ragged = ragged;
      Problem problem(spec);
      check_problem(problem, ragged ? "ragged" : "");
    }
  }
}

TEST("windows, bias, and rows that see nothing") {
  for (const int window : {0, 50}) {
    Spec spec;
    spec.head_size = 80;
    spec.group = 1;
    spec.n = 17;
    spec.rows = {260, 40};
    spec.bias = true;
    spec.window = window;
    Problem problem(spec);
    problem.end(0, 4) = 0;
    for (int i = 0; i < spec.n; ++i) problem.end(1, i) = problem.first(1, i) = i;
    check_problem(problem, "window " + std::to_string(window));
  }
}
