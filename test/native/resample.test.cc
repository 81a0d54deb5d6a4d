#include "kernel_test.h"

using namespace kernel_test;
using tokensieve::kernels::Taps;

namespace {

constexpr int32_t kOne = 1 << tokensieve::kernels::kTapBits;

struct Axis {
  std::vector<int32_t> first, count, weight;
  int reach;
  Taps taps() const { return {static_cast<int>(first.size()), reach, first.data(), count.data(), weight.data()}; }
};

// Weights of both signs whose sum is one, |weights| below two; what is behind the count must not matter.
Axis some_axis(int in, int out, int reach, check::Random& random) {
  Axis axis;
  axis.reach = reach;
  for (int i = 0; i < out; ++i) {
    const int count = 1 + random.below(std::min(reach, in));
    axis.first.push_back(random.below(in - count + 1));
    axis.count.push_back(count);
    int32_t left = kOne;
    for (int k = 0; k < reach; ++k) {
      int32_t w = k + 1 < count ? random.below(kOne / reach) - kOne / (4 * reach) : left;
      if (k >= count) w = 1 << 30;
      axis.weight.push_back(w);
      left -= w;
    }
  }
  return axis;
}

std::vector<uint8_t> noise(size_t bytes, check::Random& random) {
  std::vector<uint8_t> x(bytes);
  for (uint8_t& b : x) b = static_cast<uint8_t>(random.below(4) == 0 ? 255 * random.below(2) : random.below(256));
  return x;
}

uint8_t rounded(double sum) {
  const double value = std::floor(sum / kOne + 0.5);
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

std::vector<uint8_t> expected(const std::vector<uint8_t>& x, int width, int height, const Axis& axis, bool across) {
  const int out_width = across ? static_cast<int>(axis.first.size()) : width;
  const int out_height = across ? height : static_cast<int>(axis.first.size());
  std::vector<uint8_t> y;
  for (int r = 0; r < out_height; ++r) {
    for (int i = 0; i < out_width; ++i) {
      for (int c = 0; c < 3; ++c) {
        const size_t to = static_cast<size_t>(across ? i : r);
        double sum = 0;
        for (int k = 0; k < axis.count[to]; ++k) {
          const int row = across ? r : axis.first[to] + k, column = across ? axis.first[to] + k : i;
          sum += static_cast<double>(axis.weight[to * static_cast<size_t>(axis.reach) + static_cast<size_t>(k)]) *
                 x[static_cast<size_t>((row * width + column) * 3 + c)];
        }
        y.push_back(rounded(sum));
      }
    }
  }
  return y;
}

std::vector<uint8_t> run(const Backend& backend, const std::vector<uint8_t>& x, int width, int height, const Axis& axis,
                         bool across, Team& team) {
  const size_t out = axis.first.size() * static_cast<size_t>(across ? height : width) * 3;
  std::vector<uint8_t> y(out + 16, 77);
  const size_t bytes = static_cast<size_t>(width) * 3;
  if (across) {
    backend.resample_across(x.data(), width, height, axis.taps(), y.data(), team);
  } else {
    backend.resample_down(x.data(), bytes, axis.taps(), y.data(), team);
  }
  for (size_t i = out; i < y.size(); ++i) CHECK_EQ(y[i], 77);
  y.resize(out);
  return y;
}

}  // namespace

TEST("both axes, every width around 16 bytes, exact") {
  check::Random random(1);
  for (const Backend* backend : backends()) {
    for (int width = 1; width <= 24; ++width) {
      for (const int reach : {1, 3, 8}) {
        const int height = 1 + random.below(9);
        const std::vector<uint8_t> x = noise(static_cast<size_t>(width * height) * 3, random);
        for (const bool across : {true, false}) {
          const Axis axis = some_axis(across ? width : height, 1 + random.below(20), reach, random);
          Team team(2);
          CHECK(run(*backend, x, width, height, axis, across, team) == expected(x, width, height, axis, across));
        }
      }
    }
  }
}

TEST("sums beyond a byte are cut at its ends") {
  const std::vector<uint8_t> x = {0, 0, 0, 255, 255, 255};
  Axis axis{{0, 0}, {2, 2}, {-kOne / 2, kOne + kOne / 2, kOne + kOne / 2, -kOne / 2}, 2};
  for (const Backend* backend : backends()) {
    Team team(1);
    const std::vector<uint8_t> want = {255, 255, 255, 0, 0, 0};
    CHECK(run(*backend, x, 2, 1, axis, true, team) == want);
    CHECK(run(*backend, x, 1, 2, axis, false, team) == want);
  }
}

TEST("the team changes nothing") {
  check::Random random(3);
  const std::vector<uint8_t> x = noise(size_t{200} * 150 * 3, random);
  for (const Backend* backend : backends()) {
    for (const bool across : {true, false}) {
      const Axis axis = some_axis(across ? 200 : 150, 97, 7, random);
      Team alone(1);
      const std::vector<uint8_t> want = run(*backend, x, 200, 150, axis, across, alone);
      for (int threads = 2; threads <= 4; ++threads) {
        Team team(threads);
        CHECK(run(*backend, x, 200, 150, axis, across, team) == want);
      }
    }
  }
}
