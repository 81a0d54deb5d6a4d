#include "kernel_test.h"

using namespace kernel_test;
using tokensieve::kernels::kMaxHadamard;
using tokensieve::kernels::takes_hadamard;

namespace {

// The definition: signs by the parity of i & j.
Matrix transformed(const Matrix& x, int n, int heads, int size) {
  Matrix y = x;
  for (int t = 0; t < n; ++t) {
    for (int h = 0; h < heads; ++h) {
      for (int i = 0; i < size; ++i) {
        double sum = 0;
        for (int j = 0; j < size; ++j) sum += (__builtin_popcount(i & j) % 2 ? -1.0 : 1.0) * x.at(t, h * size + j);
        y.at(t, h * size + i) = static_cast<float>(sum / std::sqrt(static_cast<double>(size)));
      }
    }
  }
  return y;
}

}  // namespace

TEST("a head of 16 worked by hand: one channel spreads over all, alternating ones gather in one") {
  for (const Backend* backend : backends()) {
    Team team(1);
    float one[16] = {}, alternating[16];
    one[3] = 8;  // signs of row 3: + - - + repeated
    for (int i = 0; i < 16; ++i) alternating[i] = i % 2 ? -1.f : 1.f;
    backend->hadamard(one, 16, 1, 1, 16, team);
    backend->hadamard(alternating, 16, 1, 1, 16, team);
    for (int i = 0; i < 16; ++i) {
      CHECK_EQ(one[i], i % 4 == 1 || i % 4 == 2 ? -2.f : 2.f);
      CHECK_EQ(alternating[i], i == 1 ? 4.f : 0.f);
    }
  }
}

TEST("every size; what stands beside the heads stays") {
  check::Random random(1);
  for (const Backend* backend : backends()) {
    for (int size = 16; size <= kMaxHadamard; size *= 2) {
      const Matrix x = Matrix::normal(3, 5 * size + 7, random);
      const Matrix want = transformed(x, 3, 5, size);
      Matrix y = x;
      Team team(2);
      backend->hadamard(y.data(), y.ld(), 3, 5, size, team);
      check_close(y, want, 2e-6, 1e-6, std::string(backend->name) + " hadamard of " + std::to_string(size));
      backend->hadamard(y.data(), y.ld(), 3, 5, size, team);
      check_close(y, x, 4e-6, 2e-6, std::string(backend->name) + " hadamard twice");
    }
  }
}

TEST("which sizes there are") {
  CHECK(takes_hadamard(16) && takes_hadamard(64) && takes_hadamard(256));
  CHECK(!takes_hadamard(0) && !takes_hadamard(8) && !takes_hadamard(96) && !takes_hadamard(512));
}

TEST("the team changes nothing") {
  check::Random random(2);
  const Matrix x = Matrix::normal(120, 9 * 64, random);
  for (const Backend* backend : backends()) {
    check_teams(std::string(backend->name) + " hadamard", [&](Team& team) {
      Matrix y = x;
      backend->hadamard(y.data(), y.ld(), 120, 9, 64, team);
      return y;
    });
  }
}
