// Expected attention: the numbers of the card, worked by hand, and rotations against one after the other.
#include "engine/expected.h"

#include "check.h"

using namespace tokensieve;

namespace {

MeanRotation positions(double from, int n) {
  MeanRotation r{{0}, {0}};
  for (int i = 0; i < n; i++) r.cos[0] += std::cos(from + i) / n, r.sin[0] += std::sin(from + i) / n;
  return r;
}

}  // namespace

TEST("three queries in the plane") {
  const float q[] = {1, 0, 0, 1, 1, 1}, k[] = {1, 0, .5f, .5f, 0, 2};
  QueryStats stats(2);
  stats.add(q, 2, 3);
  const MeanRotation rotation = positions(3, 2);
  CHECK_NEAR(rotation.cos[0], -.8218, 1e-4);
  CHECK_NEAR(rotation.sin[0], -.3078, 1e-4);
  const Outlook ahead = outlook(stats, rotation);
  CHECK_NEAR(ahead.mean[0], -.3427, 1e-4);
  CHECK_NEAR(ahead.mean[1], -.7531, 1e-4);
  float turned[2], z[3];
  expected_scores(ahead, k, 3, static_cast<float>(1 / std::sqrt(2.)), turned, z);
  CHECK_NEAR(z[0], -.1854, 1e-4);
  CHECK_NEAR(z[1], -.3741, 1e-4);
  CHECK_NEAR(z[2], -.9501, 1e-4);
}

TEST("rows in parts and strides") {
  check::Random random(3);
  float q[7 * 5];
  for (float& x : q) x = random.normal();
  QueryStats all(4), parts(4);
  all.add(q, 5, 7);
  parts.add(q, 5, 3);
  parts.add(q + 3 * 5, 5, 4);
  CHECK(parts.count == 7);
  for (int i = 0; i < 4; i++) {
    double sum = 0;
    for (int row = 0; row < 7; row++) sum += q[row * 5 + i];
    CHECK_NEAR(all.sum[static_cast<size_t>(i)], sum, 1e-5);
    for (int j = i; j < 4; j++) {
      double square = 0;
      for (int row = 0; row < 7; row++) square += static_cast<double>(q[row * 5 + i]) * q[row * 5 + j];
      CHECK_NEAR(parts.squares[static_cast<size_t>(i * 4 + j)], square, 1e-5);
    }
  }
}

TEST("what is not rotated stays") {
  const float q[] = {1, 2, 3, 4};
  QueryStats one(4);
  one.add(q, 4, 1);
  const Outlook ahead = outlook(one, positions(0, 1));  // pairs (0, 1); elements 2 and 3 have no angle
  for (int i = 0; i < 4; i++) CHECK_NEAR(ahead.mean[static_cast<size_t>(i)], q[i], 1e-6);
  for (float c : ahead.covariance) CHECK_NEAR(c, 0, 1e-6);
  const Outlook none = outlook(QueryStats(4), positions(2, 3));
  for (float m : none.mean) CHECK(m == 0);
}
