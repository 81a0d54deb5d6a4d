// Gather and merge on the emulated device.
#include "cuda_team.h"
#include "kernel_test.h"
#include "simt/simt.h"

using namespace kernel_test;
using tokensieve::kernels::reference_backend;

TEST("gather: to another place in any order, in place ascending") {
  check::Random random(1);
  for (const int d : {1, 33, 576}) {
    const Matrix x = Matrix::normal(60, d, random);
    std::vector<int32_t> any = {8, 0, 3, 3, 59, 1}, ascending;
    for (int i = 0; i < 60; ++i) {
      if (i < 2 || random.below(3)) ascending.push_back(i);
    }
    Matrix want(6, d), kept = x;
    for (int i = 0; i < 6; ++i)
      std::memcpy(&want.at(i, 0), &x.at(any[static_cast<size_t>(i)], 0), 4 * static_cast<size_t>(d));
    for (size_t i = 0; i < ascending.size(); ++i) {
      std::memcpy(&kept.at(static_cast<int>(i), 0), &x.at(ascending[i], 0), 4 * static_cast<size_t>(d));
    }
    simt::each_schedule([&] {
      DeviceTeam device;
      std::vector<int32_t> lent = any, lent_too = ascending;
      Matrix out(6, d), in_place = x;
      device.backend().gather(x.data(), x.ld(), d, lent.data(), 6, out.data(), out.ld(), device.team());
      device.backend().gather(in_place.data(), in_place.ld(), d, lent_too.data(), static_cast<int>(lent_too.size()),
                              in_place.data(), in_place.ld(), device.team());
      lent.assign(6, -1), lent_too.assign(lent_too.size(), -1);
      device.wait();
      CHECK(out.same_bits(want));
      CHECK(in_place.same_bits(kept));
    });
  }
}

TEST("merge: sizes weigh, negative drops, one row is copied bit for bit") {
  check::Random random(2);
  for (const int groups : {1, 4, 40}) {
    const int n = 90, d = 65;
    const Matrix x = Matrix::normal(n, d, random);
    std::vector<int32_t> into;
    std::vector<float> size;
    for (int i = 0; i < n; ++i) {
      into.push_back(i < groups ? groups - 1 - i : random.below(5) == 0 || i % groups == 0 ? -1 : random.below(groups));
      size.push_back(static_cast<float>(1 + random.below(7)));
    }
    Matrix want(groups, d);
    std::vector<float> sizes(static_cast<size_t>(groups));
    reference_backend().merge(x.data(), x.ld(), d, into.data(), size.data(), n, groups, want.data(), want.ld(),
                              sizes.data(), alone);
    simt::each_schedule([&] {
      DeviceTeam device;
      Matrix got(groups, d);
      std::vector<float> got_sizes(sizes.size());
      device.backend().merge(x.data(), x.ld(), d, into.data(), size.data(), n, groups, got.data(), got.ld(),
                             got_sizes.data(), device.team());
      device.wait();
      check_close(got, want, 1e-5, 2e-6, "merge into " + std::to_string(groups));
      CHECK(got_sizes == sizes);
      for (int g = 0; g < groups; ++g) {
        int only = -1, members = 0;
        for (int i = 0; i < n; ++i) {
          if (into[static_cast<size_t>(i)] == g) only = i, members++;
        }
        if (members == 1) CHECK(std::memcmp(&got.at(g, 0), &x.at(only, 0), 4 * static_cast<size_t>(d)) == 0);
      }
    });
  }
}
