// Resample on the emulated device: exact, so equal to the reference.
#include "cuda_team.h"
#include "kernel_test.h"
#include "simt/simt.h"

using namespace kernel_test;
using tokensieve::kernels::reference_backend;
using tokensieve::kernels::Taps;

TEST("both axes, weights of both signs, sums beyond a byte") {
  check::Random random(1);
  constexpr int32_t kOne = 1 << tokensieve::kernels::kTapBits;
  const int width = 23, height = 9, out = 14;
  std::vector<uint8_t> x;
  for (int i = 0; i < width * height * 3; ++i) {
    x.push_back(static_cast<uint8_t>(random.below(4) == 0 ? 255 * random.below(2) : random.below(256)));
  }
  for (const int reach : {1, 3, 8}) {
    for (const bool across : {true, false}) {
      std::vector<int32_t> first, count, weight;
      for (int i = 0; i < out; ++i) {
        count.push_back(1 + random.below(reach));
        first.push_back(random.below((across ? width : height) - count.back() + 1));
        int32_t left = kOne;
        for (int k = 0; k < reach; ++k) {
          const int32_t w = k + 1 < count.back()    ? random.below(kOne) - kOne / 2
                            : k + 1 == count.back() ? left
                                                    : 1 << 30;
          weight.push_back(reach > 3 && k + 1 < count.back() ? w / reach : w);
          if (k < count.back()) left -= weight.back();
        }
      }
      const Taps taps{out, reach, first.data(), count.data(), weight.data()};
      const size_t bytes = static_cast<size_t>(out * (across ? height : width) * 3);
      const auto run = [&](const Backend& backend, Team& team) {
        std::vector<uint8_t> y(bytes + 8, 77);
        if (across) backend.resample_across(x.data(), width, height, taps, y.data(), team);
        if (!across) backend.resample_down(x.data(), static_cast<size_t>(width) * 3, taps, y.data(), team);
        return y;
      };
      const std::vector<uint8_t> want = run(reference_backend(), alone);
      simt::each_schedule([&] { CHECK(run(DeviceTeam::backend(), alone) == want); });
    }
  }
}
