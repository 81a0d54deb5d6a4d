// Softmax on the emulated device against the reference.
#include "cuda_team.h"
#include "kernel_test.h"
#include "simt/simt.h"

using namespace kernel_test;
using tokensieve::kernels::reference_backend;

namespace {

void check_rows(const Matrix& x) {
  const int n = x.rows(), d = x.columns();
  Matrix want(n, d);
  std::vector<float> lse(static_cast<size_t>(n));
  reference_backend().softmax(x.data(), x.ld(), n, d, want.data(), want.ld(), lse.data(), alone);
  simt::each_schedule([&] {
    DeviceTeam device;
    Matrix y(n, d), in_place = x;
    std::vector<float> got(lse.size()), only(lse.size());
    const Backend& cuda = device.backend();
    cuda.softmax(x.data(), x.ld(), n, d, y.data(), y.ld(), got.data(), device.team());
    cuda.softmax(in_place.data(), x.ld(), n, d, in_place.data(), x.ld(), nullptr, device.team());
    cuda.softmax(x.data(), x.ld(), n, d, nullptr, 0, only.data(), device.team());
    device.wait();
    check_close(y, want, 1e-5, 1e-37, "softmax of " + std::to_string(d));
    CHECK(in_place.same_bits(y));
    for (size_t t = 0; t < lse.size(); ++t) {
      CHECK_NEAR(got[t], lse[t], 1e-6 * std::fabs(lse[t]) + 1e-6);
      CHECK_EQ(only[t], got[t]);
    }
  });
}

}  // namespace

TEST("lengths around warps and blocks") {
  check::Random random(1);
  for (const int d : {1, 31, 33, 255, 257, 1000, 4097}) check_rows(Matrix::normal(3, d, random, 5));
}

TEST("minus infinity, large numbers, a flat vocabulary") {
  Matrix x(4, 70), flat(1, 50000);
  for (int i = 0; i < 70; ++i) {
    x.at(0, i) = -INFINITY;
    x.at(1, i) = i == 69 ? 2.0f : -INFINITY;
    x.at(2, i) = i % 2 ? 3e38f : -3e38f;
    x.at(3, i) = 1000.0f + static_cast<float>(i);
  }
  for (int i = 0; i < flat.columns(); ++i) flat.at(0, i) = -7.25f;
  check_rows(x);
  check_rows(flat);
}
