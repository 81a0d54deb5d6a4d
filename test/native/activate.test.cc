#include "activations.h"
#include "kernel_test.h"

using namespace kernel_test;
using namespace activations;

namespace {

Matrix expected(Activation act, const Matrix& x) {
  Matrix y(x.rows(), x.columns());
  for (int t = 0; t < x.rows(); ++t) {
    for (int i = 0; i < x.columns(); ++i) y.at(t, i) = static_cast<float>(activated(act, x.at(t, i)));
  }
  return y;
}

std::string named(const Backend& backend, Activation act) {
  return std::string(backend.name) + " activate " + std::to_string(static_cast<int>(act));
}

}  // namespace

TEST("every length, apart and in place") {
  check::Random random(1);
  for (const Backend* backend : backends()) {
    for (const Activation act : kAll) {
      for (const int d : lengths()) {
        const Matrix x = Matrix::normal(2, d, random, 3);
        Team team(2);
        Matrix y(2, d);
        backend->activate(act, x.data(), x.ld(), 2, d, y.data(), y.ld(), team);
        check_close(y, expected(act, x), 2e-6, 1e-37, named(*backend, act));
        Matrix in_place = x;
        backend->activate(act, in_place.data(), x.ld(), 2, d, in_place.data(), x.ld(), team);
        CHECK(in_place.same_bits(y));
      }
    }
  }
}

TEST("2e-6 of the value itself, far into the tails") {
  const int d = 16001;
  Matrix x(1, d);
  for (int i = 0; i < d; ++i) x.at(0, i) = static_cast<float>(-80 + 0.01 * i);
  for (const Backend* backend : backends()) {
    for (const Activation act : kAll) {
      Team team(1);
      Matrix y(1, d);
      backend->activate(act, x.data(), x.ld(), 1, d, y.data(), y.ld(), team);
      check_close(y, expected(act, x), 2e-6, 1e-37, named(*backend, act));
    }
  }
}

TEST("no finite number gives NaN") {
  Matrix x(1, 8);
  const float extremes[] = {0.0f, -0.0f, 1e-45f, -1e-38f, 1e19f, -1e19f, 3.4e38f, -3.4e38f};
  for (int i = 0; i < 8; ++i) x.at(0, i) = extremes[i];
  for (const Backend* backend : backends()) {
    for (const Activation act : kAll) {
      Team team(1);
      Matrix y(1, 8);
      backend->activate(act, x.data(), x.ld(), 1, 8, y.data(), y.ld(), team);
      for (int i = 0; i < 8; ++i) {
        CHECK(!std::isnan(y.at(0, i)));
        if (std::fabs(extremes[i]) > 1000) CHECK_EQ(y.at(0, i), extremes[i] > 0 ? extremes[i] : 0.0f);
      }
    }
  }
}

TEST("the team changes nothing") {
  check::Random random(2);
  const Matrix x = Matrix::normal(80, 3072, random);
  for (const Backend* backend : backends()) {
    check_teams(std::string(backend->name) + " activate", [&](Team& team) {
      Matrix y(80, 3072);
      backend->activate(Activation::quick_gelu, x.data(), x.ld(), 80, 3072, y.data(), y.ld(), team);
      return y;
    });
  }
}
