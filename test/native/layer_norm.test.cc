#include "kernel_test.h"

using namespace kernel_test;

namespace {

struct Norm {
  std::vector<float> weight, bias;
  float eps = 1e-5f;
};

Norm some_norm(int d, check::Random& random) {
  return {random.normals(static_cast<size_t>(d)), random.normals(static_cast<size_t>(d))};
}

Matrix expected(const Matrix& x, const Norm& norm) {
  Matrix y(x.rows(), x.columns());
  const int d = x.columns();
  for (int t = 0; t < x.rows(); ++t) {
    double mean = 0, variance = 0;
    for (int i = 0; i < d; ++i) mean += x.at(t, i) / static_cast<double>(d);
    for (int i = 0; i < d; ++i) variance += std::pow(x.at(t, i) - mean, 2) / d;
    for (int i = 0; i < d; ++i) {
      const double centred = (x.at(t, i) - mean) / std::sqrt(variance + norm.eps);
      y.at(t, i) =
          static_cast<float>(centred * norm.weight[static_cast<size_t>(i)] + norm.bias[static_cast<size_t>(i)]);
    }
  }
  return y;
}

Matrix run(const Backend& backend, const Matrix& x, const Norm& norm, Team& team) {
  Matrix y(x.rows(), x.columns());
  backend.layer_norm(x.data(), x.ld(), x.rows(), x.columns(), norm.weight.data(), norm.bias.data(), norm.eps, y.data(),
                     y.ld(), team);
  return y;
}

double largest(const Matrix& m) {
  double most = 0;
  for (int t = 0; t < m.rows(); ++t) {
    for (int i = 0; i < m.columns(); ++i) most = std::fmax(most, std::fabs(m.at(t, i)));
  }
  return most;
}

}  // namespace

TEST("a row worked by hand") {
  // 1, 3: mean 2, deviation 1
  const float x[2] = {1, 3}, weight[2] = {2, 4}, bias[2] = {10, 20};
  for (const Backend* backend : backends()) {
    float y[2];
    Team team(1);
    backend->layer_norm(x, 2, 1, 2, weight, bias, 0, y, 2, team);
    CHECK_NEAR(y[0], 8, 1e-6);
    CHECK_NEAR(y[1], 24, 1e-6);
    const float same[2] = {5, 5};
    backend->layer_norm(same, 2, 1, 2, weight, bias, 1e-6f, y, 2, team);
    CHECK_EQ(y[0], 10.0f);
    CHECK_EQ(y[1], 20.0f);
  }
}

TEST("every length, apart and in place") {
  check::Random random(1);
  for (const Backend* backend : backends()) {
    for (const int d : lengths()) {
      const Matrix x = Matrix::normal(3, d, random);
      const Norm norm = some_norm(d, random);
      const Matrix want = expected(x, norm);
      Team team(2);
      const Matrix y = run(*backend, x, norm, team);
      check_close(y, want, 0, 2e-6 * largest(want), std::string(backend->name) + " layer_norm d " + std::to_string(d));
      Matrix in_place = x;
      backend->layer_norm(in_place.data(), x.ld(), 3, d, norm.weight.data(), norm.bias.data(), norm.eps,
                          in_place.data(), x.ld(), team);
      CHECK(in_place.same_bits(y));
    }
  }
}

TEST("rows of any size, and far from zero") {
  check::Random random(2);
  for (const Backend* backend : backends()) {
    for (const float scale : {1e6f, 1e-3f}) {
      for (const float shift : {0.0f, 100.0f}) {
        Matrix x = Matrix::normal(2, 1152, random, scale);
        for (int i = 0; i < 1152; ++i) x.at(0, i) += shift * scale;
        Norm norm = some_norm(1152, random);
        norm.eps = 1e-12f;
        const Matrix want = expected(x, norm);
        Team team(1);
        check_close(run(*backend, x, norm, team), want, 0, (shift > 0 ? 2e-5 : 2e-6) * largest(want),
                    std::string(backend->name) + " layer_norm of large rows");
      }
    }
  }
}

TEST("the team changes nothing") {
  check::Random random(3);
  const Matrix x = Matrix::normal(100, 576, random);
  const Norm norm = some_norm(576, random);
  for (const Backend* backend : backends()) {
    check_teams(std::string(backend->name) + " layer_norm", [&](Team& team) { return run(*backend, x, norm, team); });
  }
}
