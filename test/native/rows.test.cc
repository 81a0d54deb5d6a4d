#include "kernel_test.h"

using namespace kernel_test;

namespace {

struct Merged {
  Matrix rows;
  std::vector<float> sizes;
};

Merged merge(const Backend& backend, const Matrix& x, const std::vector<int32_t>& into, const std::vector<float>& size,
             int groups, Team& team) {
  Merged result = {Matrix(groups, x.columns()), std::vector<float>(static_cast<size_t>(groups))};
  backend.merge(x.data(), x.ld(), x.columns(), into.data(), size.data(), x.rows(), groups, result.rows.data(),
                result.rows.ld(), result.sizes.data(), team);
  return result;
}

// n rows in `groups` groups, none of them empty; about one row in five is dropped.
std::vector<int32_t> random_groups(int n, int groups, check::Random& random) {
  std::vector<int32_t> into(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    into[static_cast<size_t>(i)] = i < groups ? groups - 1 - i : random.below(5) == 0 ? -1 : random.below(groups);
  }
  return into;
}

void check_merge(const Backend& backend, int n, int groups, int d, check::Random& random) {
  const Matrix x = Matrix::normal(n, d, random);
  const std::vector<int32_t> into = random_groups(n, groups, random);
  std::vector<float> size;
  for (int i = 0; i < n; ++i) size.push_back(static_cast<float>(1 + random.below(7)));
  Matrix want(groups, d);
  for (int g = 0; g < groups; ++g) {
    for (int c = 0; c < d; ++c) {
      double sum = 0, weight = 0;
      for (int i = 0; i < n; ++i) {
        if (into[static_cast<size_t>(i)] != g) continue;
        sum += static_cast<double>(size[static_cast<size_t>(i)]) * x.at(i, c);
        weight += size[static_cast<size_t>(i)];
      }
      want.at(g, c) = static_cast<float>(sum / weight);
    }
  }
  Team team(2);
  const Merged got = merge(backend, x, into, size, groups, team);
  check_close(got.rows, want, 1e-5, 2e-6, std::string(backend.name) + " merge d " + std::to_string(d));
  double total = 0, kept = 0;
  for (const float s : got.sizes) total += s;
  for (int i = 0; i < n; ++i) kept += into[static_cast<size_t>(i)] < 0 ? 0 : size[static_cast<size_t>(i)];
  CHECK_EQ(total, kept);
}

}  // namespace

// Bipartite merging of six tokens, two merged: even rows find their nearest odd row, the two nearest pairs fold.
TEST("ToMe's six rows") {
  const float x[12] = {1, 0, .9f, .1f, 0, 1, .2f, .9f, -1, 0, .8f, .6f}, ones[6] = {1, 1, 1, 1, 1, 1};
  const int32_t into[6] = {1, 1, 2, 2, 0, 3};
  const float want[8] = {-1, 0, .95f, .05f, .1f, .95f, .8f, .6f}, sizes[4] = {1, 2, 2, 1};
  for (const Backend* backend : backends()) {
    float out[8], out_size[4];
    Team team(1);
    backend->merge(x, 2, 2, into, ones, 6, 4, out, 2, out_size, team);
    for (int i = 0; i < 8; ++i) CHECK_NEAR(out[i], want[i], 1e-7);
    for (int i = 0; i < 4; ++i) CHECK_EQ(out_size[i], sizes[i]);
  }
}

TEST("merge: sizes weigh, negative drops, one row is copied bit for bit") {
  for (const Backend* backend : backends()) {
    const float x[8] = {1, 10, 4, 40, -0.0f, 1e-41f, 7, 70}, size[4] = {3, 1, 5, 9};
    const int32_t into[4] = {0, 0, 1, -1};
    float out[4], out_size[2];
    Team team(1);
    backend->merge(x, 2, 2, into, size, 4, 2, out, 2, out_size, team);
    CHECK_NEAR(out[0], 1.75, 1e-6);
    CHECK_NEAR(out[1], 17.5, 1e-5);
    CHECK(std::memcmp(out + 2, x + 4, 8) == 0);
    CHECK_EQ(out_size[0], 4.0f);
    CHECK_EQ(out_size[1], 5.0f);
  }
}

TEST("merge: every length and many groups") {
  check::Random random(1);
  for (const Backend* backend : backends()) {
    for (const int d : lengths()) check_merge(*backend, 11, 4, d, random);
    for (const int groups : {1, 63, 64, 65, 200}) check_merge(*backend, 300, groups, 64, random);
    check_merge(*backend, 5, 5, 40, random);
  }
}

TEST("gather: every length, any order, twice the same") {
  check::Random random(2);
  for (const Backend* backend : backends()) {
    for (const int d : lengths()) {
      const Matrix x = Matrix::normal(9, d, random);
      const int32_t index[6] = {8, 0, 3, 3, 7, 1};
      Matrix out(6, d), want(6, d);
      for (int i = 0; i < 6; ++i) std::memcpy(&want.at(i, 0), &x.at(index[i], 0), static_cast<size_t>(d) * 4);
      Team team(2);
      backend->gather(x.data(), x.ld(), d, index, 6, out.data(), out.ld(), team);
      CHECK(out.same_bits(want));
    }
  }
}

TEST("gather in place, with any team") {
  check::Random random(3);
  for (const Backend* backend : backends()) {
    for (const int d : {1, 17, 576, 1100}) {
      const int rows = d == 576 ? 4000 : 200;  // long enough for several threads to be at it
      const Matrix x = Matrix::normal(rows, d, random);
      std::vector<int32_t> index;
      for (int i = 0; i < rows; ++i) {
        // scattered, or all that follows a few dropped rows: there every task reads what the next ones overwrite
        if (d == 576 ? i >= 20 : random.below(3) || i < 2) index.push_back(i);
      }
      Matrix want = x;
      for (size_t i = 0; i < index.size(); ++i) {
        std::memcpy(&want.at(static_cast<int>(i), 0), &x.at(index[i], 0), static_cast<size_t>(d) * 4);
      }
      for (int threads = 1; threads <= 4; ++threads) {
        Matrix got = x;
        Team team(threads);
        backend->gather(got.data(), got.ld(), d, index.data(), static_cast<int>(index.size()), got.data(), got.ld(),
                        team);
        CHECK(got.same_bits(want));
      }
    }
  }
}

TEST("the team changes nothing") {
  check::Random random(4);
  const Matrix x = Matrix::normal(400, 288, random);
  const std::vector<int32_t> into = random_groups(400, 150, random);
  const std::vector<float> size(400, 1.5f);
  for (const Backend* backend : backends()) {
    check_teams(std::string(backend->name) + " merge",
                [&](Team& team) { return merge(*backend, x, into, size, 150, team).rows; });
  }
}
