#include "kernel_test.h"

using namespace kernel_test;

namespace {

struct Case {
  int n, groups, d;
  bool weight, add;
};

// The formula once more, in double.
Matrix expected(const Matrix& x, const Case& c, const std::vector<float>& weight, float eps, const Matrix& add) {
  Matrix y(c.n, c.groups * c.d);
  for (int t = 0; t < c.n; ++t) {
    for (int g = 0; g < c.groups; ++g) {
      double squares = 0;
      for (int i = 0; i < c.d; ++i) squares += std::pow(x.at(t, g * c.d + i), 2.0);
      for (int i = 0; i < c.d; ++i) {
        const double normed = x.at(t, g * c.d + i) / std::sqrt(squares / c.d + eps) * (c.weight ? weight[i] : 1);
        y.at(t, g * c.d + i) = static_cast<float>(normed + (c.add ? add.at(t, g * c.d + i) : 0));
      }
    }
  }
  return y;
}

void check_case(const Backend& backend, const Case& c, float scale, check::Random& random) {
  const Matrix x = Matrix::normal(c.n, c.groups * c.d, random, scale),
               add = Matrix::normal(c.n, c.groups * c.d, random);
  const std::vector<float> weight = random.normals(static_cast<size_t>(c.d));
  const float eps = 1e-5f;
  const Matrix want = expected(x, c, weight, eps, add);
  const std::string what = std::string(backend.name) + " rms_norm d " + std::to_string(c.d);
  const float* const w = c.weight ? weight.data() : nullptr;
  Team team(2);
  Matrix y(c.n, c.groups * c.d);
  backend.rms_norm(x.data(), x.ld(), c.n, c.groups, c.d, w, eps, c.add ? add.data() : nullptr, y.data(), y.ld(), team);
  check_close(y, want, 1e-6, c.add ? 1e-6 : 0, what);
  Matrix in_place = x;
  backend.rms_norm(in_place.data(), x.ld(), c.n, c.groups, c.d, w, eps, c.add ? add.data() : nullptr, in_place.data(),
                   x.ld(), team);
  CHECK(in_place.same_bits(y));
  if (!c.add) return;
  Matrix sum = add;  // add may be y: the residual takes the norm
  backend.rms_norm(x.data(), x.ld(), c.n, c.groups, c.d, w, eps, sum.data(), sum.data(), sum.ld(), team);
  CHECK(sum.same_bits(y));
}

}  // namespace

TEST("a row worked by hand") {
  for (const Backend* backend : backends()) {
    const float x[2] = {3, 4}, weight[2] = {1, 2};
    float y[2];
    Team team(1);
    backend->rms_norm(x, 2, 1, 1, 2, weight, 0, nullptr, y, 2, team);
    CHECK_NEAR(y[0], 3 / std::sqrt(12.5), 1e-7);
    CHECK_NEAR(y[1], 8 / std::sqrt(12.5), 2e-7);
    const float zeros[2] = {0, 0};
    backend->rms_norm(zeros, 2, 1, 1, 2, weight, 1e-6f, nullptr, y, 2, team);
    CHECK_EQ(y[0], 0.0f);
  }
}

TEST("every length, with and without weight and add, in place") {
  check::Random random(1);
  for (const Backend* backend : backends()) {
    for (const int d : lengths()) {
      for (int options = 0; options < 4; ++options) {
        check_case(*backend, {2, 1 + d % 3, d, (options & 1) != 0, (options & 2) != 0}, 1, random);
      }
    }
  }
}

TEST("a residual of any size") {
  check::Random random(2);
  for (const Backend* backend : backends()) {
    for (const float scale : {1e6f, 1e3f, 1e-3f}) check_case(*backend, {3, 1, 1152, true, false}, scale, random);
    const Matrix outlier = [&] {
      Matrix x = Matrix::normal(1, 2048, random, 1e-2f);
      x.at(0, 700) = 1e6f;
      return x;
    }();
    Team team(1);
    Matrix y(1, 2048);
    backend->rms_norm(outlier.data(), outlier.ld(), 1, 1, 2048, nullptr, 1e-6f, nullptr, y.data(), y.ld(), team);
    check_close(y, expected(outlier, {1, 1, 2048, false, false}, {}, 1e-6f, outlier), 1e-6, 0,
                "rms_norm of an outlier");
  }
}

TEST("the team changes nothing") {
  check::Random random(3);
  const Matrix x = Matrix::normal(100, 576, random);
  for (const Backend* backend : backends()) {
    check_teams(std::string(backend->name) + " rms_norm", [&](Team& team) {
      Matrix y(100, 576);
      backend->rms_norm(x.data(), x.ld(), 100, 1, 576, nullptr, 1e-5f, nullptr, y.data(), y.ld(), team);
      return y;
    });
  }
}
