#include "activations.h"
#include "kernel_test.h"

using namespace kernel_test;
using namespace activations;

namespace {

Matrix expected(Activation act, const Matrix& x, int d) {
  Matrix y(x.rows(), d);
  for (int t = 0; t < x.rows(); ++t) {
    for (int i = 0; i < d; ++i) y.at(t, i) = static_cast<float>(activated(act, x.at(t, i)) * x.at(t, d + i));
  }
  return y;
}

}  // namespace

TEST("every length, apart and in place") {
  check::Random random(1);
  for (const Backend* backend : backends()) {
    for (const Activation act : kAll) {
      for (const int d : lengths()) {
        const Matrix x = Matrix::normal(2, 2 * d, random, 3);
        const Matrix want = expected(act, x, d);
        const std::string what = std::string(backend->name) + " gate " + std::to_string(static_cast<int>(act));
        Team team(2);
        Matrix y(2, d);
        backend->gate(act, x.data(), x.ld(), 2, d, y.data(), y.ld(), team);
        check_close(y, want, 2e-6, 1e-37, what);
        Matrix in_place = x;
        backend->gate(act, in_place.data(), x.ld(), 2, d, in_place.data(), x.ld(), team);
        for (int t = 0; t < 2; ++t)
          CHECK(std::memcmp(&in_place.at(t, 0), &y.at(t, 0), static_cast<size_t>(d) * 4) == 0);
        CHECK(in_place.guards_hold());
      }
    }
  }
}

TEST("2e-6 of the value itself, far into the tails") {
  const int d = 16001;
  Matrix x(1, 2 * d);
  for (int i = 0; i < d; ++i) {
    x.at(0, i) = static_cast<float>(-80 + 0.01 * i);
    x.at(0, d + i) = 1;
  }
  for (const Backend* backend : backends()) {
    for (const Activation act : kAll) {
      Team team(1);
      Matrix y(1, d);
      backend->gate(act, x.data(), x.ld(), 1, d, y.data(), y.ld(), team);
      check_close(y, expected(act, x, d), 2e-6, 1e-37,
                  std::string(backend->name) + " gate " + std::to_string(static_cast<int>(act)));
    }
  }
}

TEST("no finite number gives NaN") {
  const float extremes[] = {0.0f, -0.0f, 1e-45f, -1e-38f, 88,     -88,     104,
                            -104, 1e4f,  -1e4f,  1e19f,   -1e19f, 3.4e38f, -3.4e38f};
  const int d = 14;
  Matrix x(1, 2 * d);
  for (int i = 0; i < d; ++i) {
    x.at(0, i) = extremes[i];
    x.at(0, d + i) = 1;
  }
  for (const Backend* backend : backends()) {
    for (const Activation act : kAll) {
      Team team(1);
      Matrix y(1, d);
      backend->gate(act, x.data(), x.ld(), 1, d, y.data(), y.ld(), team);
      for (int i = 0; i < d; ++i) {
        CHECK(!std::isnan(y.at(0, i)));
        if (std::fabs(extremes[i]) > 1000) CHECK_EQ(y.at(0, i), extremes[i] > 0 ? extremes[i] : 0.0f);
      }
    }
  }
}

TEST("the team changes nothing") {
  check::Random random(2);
  const Matrix x = Matrix::normal(40, 2 * 1536, random);
  for (const Backend* backend : backends()) {
    check_teams(std::string(backend->name) + " gate", [&](Team& team) {
      Matrix y(40, 1536);
      backend->gate(Activation::silu, x.data(), x.ld(), 40, 1536, y.data(), y.ld(), team);
      return y;
    });
  }
}
