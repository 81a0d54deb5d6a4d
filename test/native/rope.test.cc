#include "kernel_test.h"

using namespace kernel_test;

namespace {

struct Angles {
  std::vector<float> cos, sin;  // [n][half]
  Angles(int n, int half, check::Random& random) {
    for (int i = 0; i < n * half; ++i) {
      const double angle = 100 * random.uniform();
      cos.push_back(static_cast<float>(std::cos(angle)));
      sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }
};

void check_case(const Backend& backend, int n, int heads, int head_size, int rotated, check::Random& random) {
  const int half = rotated / 2;
  const Angles angles(n, half, random);
  const Matrix x = Matrix::normal(n, heads * head_size, random);
  Matrix want = x;
  for (int t = 0; t < n; ++t) {
    for (int h = 0; h < heads; ++h) {
      for (int i = 0; i < half; ++i) {
        const double a = x.at(t, h * head_size + i), b = x.at(t, h * head_size + half + i);
        const double c = angles.cos[static_cast<size_t>(t * half + i)],
                     s = angles.sin[static_cast<size_t>(t * half + i)];
        want.at(t, h * head_size + i) = static_cast<float>(a * c - b * s);
        want.at(t, h * head_size + half + i) = static_cast<float>(b * c + a * s);
      }
    }
  }
  Matrix y = x;
  Team team(2);
  backend.rope(y.data(), y.ld(), n, heads, head_size, rotated, angles.cos.data(), angles.sin.data(), team);
  check_close(y, want, 1e-6, 5e-7, std::string(backend.name) + " rope of " + std::to_string(rotated));
}

}  // namespace

TEST("a quarter turn worked by hand") {
  for (const Backend* backend : backends()) {
    float x[6] = {1, 2, 3, 4, 5, 6};  // one head of 6, of which 4 rotate: pairs (1, 3) and (2, 4)
    const float cos[2] = {0, 1}, sin[2] = {1, 0};
    Team team(1);
    backend->rope(x, 6, 1, 1, 6, 4, cos, sin, team);
    const float want[6] = {-3, 2, 1, 4, 5, 6};
    for (int i = 0; i < 6; ++i) CHECK_EQ(x[i], want[i]);
  }
}

TEST("every rotated size, whole and partial heads") {
  check::Random random(1);
  for (const Backend* backend : backends()) {
    for (int rotated = 0; rotated <= 140; rotated += 2) {
      check_case(*backend, 3, 2, rotated + 6, rotated, random);
      if (rotated > 0) check_case(*backend, 2, 3, rotated, rotated, random);
    }
    check_case(*backend, 40, 9, 64, 64, random);
    check_case(*backend, 1, 4, 256, 256, random);
  }
}

TEST("the team changes nothing") {
  check::Random random(2);
  const Angles angles(120, 32, random);
  const Matrix x = Matrix::normal(120, 9 * 64, random);
  for (const Backend* backend : backends()) {
    check_teams(std::string(backend->name) + " rope", [&](Team& team) {
      Matrix y = x;
      backend->rope(y.data(), y.ld(), 120, 9, 64, 64, angles.cos.data(), angles.sin.data(), team);
      return y;
    });
  }
}
