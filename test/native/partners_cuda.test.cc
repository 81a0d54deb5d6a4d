// Partners on the emulated device against the reference in double.
#include "cache_problem.h"
#include "cuda_team.h"
#include "simt/simt.h"

using namespace kernel_test;

namespace {

struct Found {
  std::vector<int32_t> partner;
  std::vector<float> similarity;
};

Found find(const Backend& backend, PartnersJob job, Team& team, DeviceTeam* device) {
  Found found{std::vector<int32_t>(static_cast<size_t>(job.rows), -1),
              std::vector<float>(static_cast<size_t>(job.rows))};
  const Bytes scratch(backend.partners_scratch(job, team.size()), 0xff);
  backend.partners(job, found.partner.data(), found.similarity.data(), scratch.data(), team);
  if (device) device->wait();
  return found;
}

// Even rows look for odd ones.
void check_match(const Matrix& x, const Matrix* values, const std::string& what) {
  std::vector<int32_t> a, b;
  for (int i = 0; i < x.rows(); ++i) (i % 2 == 0 ? a : b).push_back(i);
  const PartnersJob job{{x.data(), values ? values->data() : nullptr},
                        values ? 2 : 1,
                        x.ld(),
                        x.columns(),
                        a.data(),
                        static_cast<int>(a.size()),
                        b.data(),
                        static_cast<int>(b.size())};
  const Found want = find(reference_backend(), job, alone, nullptr);
  simt::each_schedule([&] {
    DeviceTeam device;
    const Found got = find(device.backend(), job, device.team(), &device);
    CHECK(got.partner == want.partner);
    double worst = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      worst =
          std::max(worst, std::fabs(static_cast<double>(got.similarity[i]) - static_cast<double>(want.similarity[i])));
    }
    check::expect(worst < 1e-6, __FILE__, __LINE__, what + " is off by " + check::number(worst));
  });
}

}  // namespace

TEST("the nearest of all: lengths, numbers of rows, one side and two") {
  check::Random random(1);
  for (const int d : {1, 15, 64, 129}) check_match(Matrix::normal(9, d, random), nullptr, "d " + std::to_string(d));
  for (const int n : {2, 3, 127, 131, 300}) {
    const Matrix keys = Matrix::normal(n, 16, random), values = Matrix::normal(n, 16, random);
    check_match(keys, nullptr, "n " + std::to_string(n));
    check_match(keys, &values, "two sides, n " + std::to_string(n));
  }
}

TEST("of equals the lowest, across tiles and chunks; rows of zeros") {
  check::Random random(2);
  Matrix x = Matrix::normal(2400, 2, random);
  for (int i = 0; i < 2400; ++i) {  // B: row 100 and one in the second chunk are A's direction, others point elsewhere
    const bool alike = i % 2 == 0 || i == 201 || i == 333 || i == 2201;
    x.at(i, 0) = alike ? 2.0f : -1.0f, x.at(i, 1) = alike ? 1.0f : 0.5f;
  }
  std::vector<int32_t> a = {0, 4, 6}, b;
  x.at(6, 0) = x.at(6, 1) = 0;
  for (int i = 1; i < 2400; i += 2) b.push_back(i);
  const PartnersJob job{{x.data(), nullptr}, 1, x.ld(), 2, a.data(), 3, b.data(), 1200};
  simt::each_schedule([&] {
    DeviceTeam device;
    const Found got = find(device.backend(), job, device.team(), &device);
    CHECK(got.partner == (std::vector<int32_t>{100, 100, 0}));
    CHECK_NEAR(got.similarity[0], 1, 1e-6);
    CHECK_EQ(got.similarity[2], 0.0f);
  });
}
