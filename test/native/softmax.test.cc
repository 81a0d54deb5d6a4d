#include "kernel_test.h"

using namespace kernel_test;

namespace {

Matrix expected(const Matrix& x, std::vector<double>& lse) {
  Matrix y(x.rows(), x.columns());
  for (int t = 0; t < x.rows(); ++t) {
    double highest = -INFINITY, sum = 0;
    for (int i = 0; i < x.columns(); ++i) highest = std::max<double>(highest, x.at(t, i));
    for (int i = 0; i < x.columns(); ++i) sum += highest > -INFINITY ? std::exp(x.at(t, i) - highest) : 0;
    for (int i = 0; i < x.columns(); ++i) {
      y.at(t, i) = sum > 0 ? static_cast<float>(std::exp(x.at(t, i) - highest) / sum) : 0;
    }
    lse.push_back(highest + std::log(sum));
  }
  return y;
}

void check_rows(const Backend& backend, const Matrix& x, double relative) {
  std::vector<double> lse;
  const Matrix want = expected(x, lse);
  const std::string what = std::string(backend.name) + " softmax of " + std::to_string(x.columns());
  Team team(2);
  Matrix y(x.rows(), x.columns()), in_place = x;
  std::vector<float> got(lse.size()), alone(lse.size());
  backend.softmax(x.data(), x.ld(), x.rows(), x.columns(), y.data(), y.ld(), got.data(), team);
  check_close(y, want, relative, 1e-37, what);
  backend.softmax(in_place.data(), x.ld(), x.rows(), x.columns(), in_place.data(), x.ld(), nullptr, team);
  CHECK(in_place.same_bits(y));
  backend.softmax(x.data(), x.ld(), x.rows(), x.columns(), nullptr, 0, alone.data(), team);
  for (size_t t = 0; t < lse.size(); ++t) {
    CHECK_NEAR(got[t], lse[t], 1e-6 * std::fabs(lse[t]) + 1e-6);
    CHECK_EQ(alone[t], got[t]);
  }
}

}  // namespace

TEST("every length") {
  check::Random random(1);
  for (const Backend* backend : backends()) {
    for (const int d : lengths()) check_rows(*backend, Matrix::normal(3, d, random, 5), 1e-5);
  }
}

TEST("a vocabulary, peaked and flat") {
  check::Random random(2);
  for (const Backend* backend : backends()) {
    check_rows(*backend, Matrix::normal(1, 262144, random, 4), 1e-5);
    Matrix flat(1, 300000);
    for (int i = 0; i < flat.columns(); ++i) flat.at(0, i) = -7.25f;
    check_rows(*backend, flat, 1e-5);
  }
}

TEST("minus infinity, and numbers that exp alone would not survive") {
  for (const Backend* backend : backends()) {
    for (const int d : {1, 5, 16, 33, 70}) {
      Matrix x(4, d);
      for (int i = 0; i < d; ++i) {
        x.at(0, i) = -INFINITY;
        x.at(1, i) = i == d - 1 ? 2.0f : -INFINITY;
        x.at(2, i) = i % 2 ? 3e38f : -3e38f;
        x.at(3, i) = 1000.0f + static_cast<float>(i);
      }
      check_rows(*backend, x, 1e-5);
    }
  }
}

TEST("the team changes nothing") {
  check::Random random(3);
  const Matrix x = Matrix::normal(37, 1000, random);
  for (const Backend* backend : backends()) {
    check_teams(std::string(backend->name) + " softmax", [&](Team& team) {
      Matrix y(37, 1000);
      backend->softmax(x.data(), x.ld(), 37, 1000, y.data(), y.ld(), nullptr, team);
      return y;
    });
  }
}
