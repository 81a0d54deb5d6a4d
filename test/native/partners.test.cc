#include "cache_problem.h"

using namespace kernel_test;
using tokensieve::kernels::PartnersJob;

namespace {

struct Found {
  std::vector<int32_t> partner;
  std::vector<float> similarity;
};

Found find(const Backend& backend, const PartnersJob& job, Team& team) {
  Found found{std::vector<int32_t>(static_cast<size_t>(job.rows), -1),
              std::vector<float>(static_cast<size_t>(job.rows))};
  const Bytes scratch(backend.partners_scratch(job, team.size()) + 64, 0xff);
  backend.partners(job, found.partner.data(), found.similarity.data(), scratch.data(), team);
  return found;
}

// Of the rows in these places the even ones are A and the odd ones B.
Found match(const Backend& backend, const Matrix& x, const std::vector<int32_t>& at, Team& team,
            const Matrix* values = nullptr) {
  std::vector<int32_t> a, b;
  for (size_t i = 0; i < at.size(); ++i) (i % 2 == 0 ? a : b).push_back(at[i]);
  PartnersJob job{{x.data(), values ? values->data() : nullptr},
                  values ? 2 : 1,
                  x.ld(),
                  x.columns(),
                  a.data(),
                  static_cast<int>(a.size()),
                  b.data(),
                  static_cast<int>(b.size())};
  return find(backend, job, team);
}

std::vector<int32_t> all_of(int n) {
  std::vector<int32_t> at;
  for (int i = 0; i < n; ++i) at.push_back(i);
  return at;
}

double cosine(const Matrix& x, int a, int b) {
  double ab = 0, aa = 0, bb = 0;
  for (int c = 0; c < x.columns(); ++c) {
    const double p = static_cast<double>(x.at(a, c)), q = static_cast<double>(x.at(b, c));
    ab += p * q, aa += p * p, bb += q * q;
  }
  return aa * bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

double likeness(const Matrix& x, const Matrix* values, int a, int b) {
  return values ? std::max(0., cosine(x, a, b)) * std::max(0., cosine(*values, a, b)) : cosine(x, a, b);
}

// The partner is the best there is, as far as f32 can tell.
void check_match(const Backend& backend, const Matrix& x, const std::vector<int32_t>& at, const std::string& what,
                 const Matrix* values = nullptr) {
  Team team(2);
  const Found found = match(backend, x, at, team, values);
  double worst = 0, off = 0;
  bool inside = true;
  for (size_t i = 0; i < found.partner.size(); ++i) {
    double best = -2;
    for (size_t j = 1; j < at.size(); j += 2) best = std::max(best, likeness(x, values, at[2 * i], at[j]));
    const int32_t j = found.partner[i];
    inside = inside && j >= 0 && static_cast<size_t>(j) < at.size() / 2;
    if (!inside) break;
    worst = std::max(worst, best - likeness(x, values, at[2 * i], at[2 * static_cast<size_t>(j) + 1]));
    off = std::max(off, std::fabs(best - static_cast<double>(found.similarity[i])));
  }
  check::expect(inside && worst < 1e-6 && off < 1e-6, __FILE__, __LINE__, std::string(backend.name) + " " + what);
}

}  // namespace

TEST("ToMe's six rows, equal rows, rows of zeros") {
  const float rows[6][2] = {{1, 0}, {.9f, .1f}, {0, 1}, {.2f, .9f}, {-1, 0}, {.8f, .6f}};
  Matrix x(6, 2), same(6, 2), zeros(4, 2);
  for (int i = 0; i < 6; ++i) {
    x.at(i, 0) = rows[i][0], x.at(i, 1) = rows[i][1];
    same.at(i, 0) = same.at(i, 1) = 3;
  }
  for (int i = 0; i < 4; ++i) zeros.at(i, 0) = i < 2 ? 0.f : 1.f, zeros.at(i, 1) = 0;
  for (const Backend* backend : backends()) {
    Team team(1);
    const Found six = match(*backend, x, all_of(6), team);
    CHECK(six.partner == (std::vector<int32_t>{0, 1, 1}));
    CHECK_NEAR(six.similarity[0], .9 / std::sqrt(.82), 1e-6);
    CHECK_NEAR(six.similarity[2], -.2 / std::sqrt(.85), 1e-6);
    CHECK(match(*backend, same, all_of(6), team).partner == (std::vector<int32_t>{0, 0, 0}));
    const Found none = match(*backend, zeros, all_of(4), team);
    CHECK(none.partner == (std::vector<int32_t>{0, 1}));
    CHECK_EQ(none.similarity[0], 0.f);
    CHECK_NEAR(none.similarity[1], 1, 1e-6);
  }
}

TEST("the nearest of all, at every length and many numbers of rows") {
  check::Random random(5);
  for (const Backend* backend : backends()) {
    for (const int d : lengths()) {
      if (d > 256) continue;
      check_match(*backend, Matrix::normal(9, d, random), all_of(9), "d " + std::to_string(d));
    }
    for (const int n : {2, 3, 31, 32, 33, 63, 64, 65, 95, 97, 500, 1031}) {
      check_match(*backend, Matrix::normal(n, 16, random), all_of(n), "n " + std::to_string(n));
    }
    check_match(*backend, Matrix::normal(50, 64, random), {3, 49, 7, 8, 0, 21, 3, 30}, "some rows");
  }
}

TEST("keys and values together: both have to be alike") {
  check::Random random(8);
  Matrix keys(4, 2),
      values(4, 2);  // EMS: the row (.8, .6), (1, 0) and centres (1, 0), (0, 1), then one that points away
  const float k[4][2] = {{.8f, .6f}, {1, 0}, {0, 1}, {-.8f, -.6f}}, v[4][2] = {{1, 0}, {1, 0}, {0, 1}, {-1, 0}};
  for (int i = 0; i < 4; ++i) {
    for (int c = 0; c < 2; ++c) keys.at(i, c) = k[i][c], values.at(i, c) = v[i][c];
  }
  const int32_t row = 0, away = 3, centres[] = {2, 1, 3};
  for (const Backend* backend : backends()) {
    Team team(2);
    PartnersJob job{{keys.data(), values.data()}, 2, keys.ld(), 2, &row, 1, centres, 3};
    const Found found = find(*backend, job, team);
    CHECK_EQ(found.partner[0], 1);
    CHECK_NEAR(found.similarity[0], .8, 1e-6);
    job.b = &away, job.columns = 1;
    CHECK_EQ(find(*backend, job, team).similarity[0], 0.f);
    for (const int n : {3, 33, 64, 700, 1100}) {
      const Matrix x = Matrix::normal(n, 64, random), y = Matrix::normal(n, 64, random);
      check_match(*backend, x, all_of(n), "both, n " + std::to_string(n), &y);
    }
  }
}

TEST("of equals the lowest, wherever they lie") {
  check::Random random(6);
  const Matrix some = Matrix::normal(3, 32, random);
  Matrix x(1200, 32);
  for (int i = 0; i < 1200; ++i) {  // B repeats one row in places 40, 41, 560 and the last; A is that row throughout
    const int j = i / 2, kind = i % 2 == 0 || j == 40 || j == 41 || j == 560 || j == 599 ? 0 : 1 + j % 2;
    std::memcpy(&x.at(i, 0), &some.at(kind, 0), 4 * 32);
  }
  for (const Backend* backend : backends()) {
    Team team(2);
    const Found found = match(*backend, x, all_of(1200), team);
    CHECK(found.partner == std::vector<int32_t>(600, 40));
  }
}

TEST("the team changes nothing") {
  check::Random random(7);
  const Matrix x = Matrix::normal(700, 64, random);
  for (const Backend* backend : backends()) {
    check_teams(std::string(backend->name) + " partners", [&](Team& team) {
      const Found found = match(*backend, x, all_of(700), team);
      Matrix y(2, 350);
      for (int i = 0; i < 350; ++i) {
        y.at(0, i) = static_cast<float>(found.partner[static_cast<size_t>(i)]);
        y.at(1, i) = found.similarity[static_cast<size_t>(i)];
      }
      return y;
    });
  }
}
