#include "engine/resample.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"

namespace tokensieve {

namespace {

double reach_of(Filter filter) { return filter == Filter::bilinear ? 1 : filter == Filter::bicubic ? 2 : 3; }

double sinc(double x) {
  if (x == 0) return 1;
  x *= 3.14159265358979323846;
  return std::sin(x) / x;
}

double value_of(Filter filter, double x) {
  if (filter == Filter::lanczos) return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
  x = std::fabs(x);
  if (filter == Filter::bilinear) return x < 1 ? 1 - x : 0;
  constexpr double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// Of the outputs along one axis.
struct Axis {
  std::vector<int32_t> first, count, weight;
  int reach = 0;
  bool plain = false;  // every output is its input

  kernels::Taps taps() const {
    return {static_cast<int>(first.size()), reach, first.data(), count.data(), weight.data()};
  }
};

Axis make_axis(int in, float from, float to, int out, Filter filter) {
  Axis axis;
  axis.plain = out == in && from == 0 && to == static_cast<float>(out);
  const double scale = static_cast<double>(to - from) / out, stretch = std::max(scale, 1.0);
  const double support = reach_of(filter) * stretch;
  axis.reach = static_cast<int>(std::ceil(support)) * 2 + 1;
  axis.weight.resize(static_cast<size_t>(out) * static_cast<size_t>(axis.reach));
  std::vector<double> weights;
  for (int i = 0; i < out; i++) {
    const double center = static_cast<double>(from) + (i + 0.5) * scale;
    const int low = std::max(0, static_cast<int>(center - support + 0.5));
    const int high = std::min(in, static_cast<int>(center + support + 0.5));
    weights.clear();
    double sum = 0;
    for (int k = low; k < high; k++) {
      weights.push_back(value_of(filter, (k - center + 0.5) * (1 / stretch)));
      sum += weights.back();
    }
    int32_t* fixed = axis.weight.data() + static_cast<size_t>(i) * static_cast<size_t>(axis.reach);
    for (double w : weights) {
      if (sum != 0) w /= sum;
      *fixed++ = static_cast<int32_t>((w < 0 ? -0.5 : 0.5) + w * (1 << kernels::kTapBits));
    }
    axis.first.push_back(low);
    axis.count.push_back(std::max(0, high - low));
  }
  return axis;
}

struct Picture {
  const uint8_t* pixels;
  int width, height;
  std::vector<uint8_t> own;  // what pixels points to, where a pass has made it
};

Picture made(int width, int height) {
  Picture picture{nullptr, width, height, {}};
  picture.own.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  picture.pixels = picture.own.data();
  return picture;
}

Picture pass_across(const kernels::Backend& backend, Picture x, const Axis& axis, Team& team) {
  if (axis.plain) return x;
  Picture y = made(static_cast<int>(axis.first.size()), x.height);
  backend.resample_across(x.pixels, x.width, x.height, axis.taps(), y.own.data(), team);
  return y;
}

Picture pass_down(const kernels::Backend& backend, Picture x, const Axis& axis, Team& team) {
  if (axis.plain) return x;
  Picture y = made(x.width, static_cast<int>(axis.first.size()));
  backend.resample_down(x.pixels, static_cast<size_t>(x.width) * 3, axis.taps(), y.own.data(), team);
  return y;
}

}  // namespace

std::vector<uint8_t> resample(const kernels::Backend& backend, const uint8_t* pixels, int width, int height,
                              const Resize& to, Team& team) {
  const float* box = to.box;
  if (!(box[0] >= 0 && box[1] >= 0 && box[2] > box[0] && box[3] > box[1] && box[2] <= static_cast<float>(width) &&
        box[3] <= static_cast<float>(height))) {
    throw Error(Code::plan, "[resample] expected a box inside the picture of " + std::to_string(width) + " x " +
                                std::to_string(height));
  }
  const Axis across = make_axis(width, box[0], box[2], to.width, to.filter);
  Axis down = make_axis(height, box[1], box[3], to.height, to.filter);
  if (across.plain && down.plain)
    return {pixels, pixels + static_cast<size_t>(width) * static_cast<size_t>(height) * 3};
  if (height > to.height && height - to.height > 2 * (width - to.width)) {
    return pass_across(backend, pass_down(backend, {pixels, width, height, {}}, down, team), across, team).own;
  }
  // Only rows that the second pass reads go through the first.
  const int first = down.plain ? 0 : down.first.front();
  const int rows = down.plain ? height : down.first.back() + down.count.back() - first;
  for (int32_t& row : down.first) row -= first;
  const uint8_t* from = pixels + static_cast<size_t>(first) * static_cast<size_t>(width) * 3;
  return pass_down(backend, pass_across(backend, {from, width, rows, {}}, across, team), down, team).own;
}

}  // namespace tokensieve
