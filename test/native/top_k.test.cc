#include <algorithm>

#include "kernel_test.h"

using namespace kernel_test;
using tokensieve::kernels::Order;

namespace {

float rank(float x) { return std::isnan(x) ? -INFINITY : x; }

std::vector<int32_t> expected(const std::vector<float>& x, int k, Order order) {
  std::vector<int32_t> indices(x.size());
  for (size_t i = 0; i < x.size(); ++i) indices[i] = static_cast<int32_t>(i);
  std::stable_sort(indices.begin(), indices.end(), [&](int32_t a, int32_t b) {
    return rank(x[static_cast<size_t>(a)]) > rank(x[static_cast<size_t>(b)]);
  });
  indices.resize(static_cast<size_t>(k));
  if (order == Order::index) std::sort(indices.begin(), indices.end());
  return indices;
}

// Both orders; scratch and out have guards, and the numbers start at an odd float.
bool agrees(const Backend& backend, const std::vector<float>& x, int k) {
  const int n = static_cast<int>(x.size());
  std::vector<float> shifted(x.size() + 1);
  std::copy(x.begin(), x.end(), shifted.begin() + 1);
  bool ok = true;
  for (const Order order : {Order::index, Order::value}) {
    std::vector<uint64_t> scratch(x.size() + 1, 77);
    std::vector<int32_t> out(static_cast<size_t>(k) + 1, -7);
    backend.top_k(shifted.data() + 1, n, k, order, out.data(), k == 1 ? nullptr : scratch.data(), alone);
    ok = ok && scratch.back() == 77 && out.back() == -7;
    out.pop_back();
    ok = ok && out == expected(x, k, order);
  }
  return ok;
}

void check_all(const std::vector<float>& x, const std::vector<int>& ks, const std::string& what) {
  for (const Backend* backend : backends()) {
    for (const int k : ks) {
      if (k > static_cast<int>(x.size())) continue;
      check::expect(
          agrees(*backend, x, k), __FILE__, __LINE__,
          std::string(backend->name) + " top " + std::to_string(k) + " of " + std::to_string(x.size()) + " " + what);
    }
  }
}

std::vector<float> rounded(std::vector<float> x, float step) {
  for (float& value : x) value = std::round(value / step) * step;
  return x;
}

}  // namespace

TEST("worked by hand") {
  const float nan = NAN, inf = INFINITY;
  const std::vector<float> x = {2, nan, 5, -inf, 5, -1, 0.0f, -0.0f, inf, 5};
  for (const Backend* backend : backends()) {
    std::vector<uint64_t> scratch(x.size());
    int32_t out[10];
    backend->top_k(x.data(), 10, 3, Order::value, out, scratch.data(), alone);
    const int32_t three[3] = {8, 2, 4};
    for (int i = 0; i < 3; ++i) CHECK_EQ(out[i], three[i]);
    backend->top_k(x.data(), 10, 10, Order::value, out, scratch.data(), alone);
    const int32_t all[10] = {8, 2, 4, 9, 0, 6, 7, 5, 1, 3};  // -0 equals 0, NaN equals -infinity
    for (int i = 0; i < 10; ++i) CHECK_EQ(out[i], all[i]);
    backend->top_k(x.data(), 0, 0, Order::index, out, scratch.data(), alone);
  }
}

TEST("every length, distinct numbers and ties") {
  check::Random random(1);
  for (int n = 1; n <= 70; ++n) {
    const std::vector<float> x = random.normals(static_cast<size_t>(n));
    const std::vector<int> ks = {0, 1, 2, 3, n / 4, n / 2, n - 1, n};
    check_all(x, ks, "distinct");
    check_all(rounded(x, 0.5f), ks, "with ties");
  }
}

TEST("long rows, few and many taken") {
  check::Random random(2);
  for (const int n : {1000, 4095, 4096, 4229, 9000, 100003}) {
    const std::vector<float> x = random.normals(static_cast<size_t>(n));
    const std::vector<int> ks = {1, 2, 8, 9, n / 512, n / 512 + 1, n / 4, n - 3, n};
    check_all(x, ks, "distinct");
    check_all(rounded(x, 0.25f), ks, "with ties");
    check_all(std::vector<float>(static_cast<size_t>(n), -3.5f), ks, "all equal");
    std::vector<float> sparse(static_cast<size_t>(n), -INFINITY);
    for (int i = 0; i < 6; ++i) sparse[static_cast<size_t>(random.below(n))] = i == 3 ? NAN : random.normal();
    check_all(sparse, ks, "mostly -infinity");
    std::vector<float> rising(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i) rising[static_cast<size_t>(i)] = static_cast<float>(i);
    check_all(rising, ks, "rising");
  }
}

TEST("numbers of every magnitude, zeros of both signs, NaN") {
  check::Random random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> x(static_cast<size_t>(1 + random.below(600)));
    for (float& value : x) {
      const uint32_t bits = static_cast<uint32_t>(random.next());
      std::memcpy(&value, &bits, 4);
      if (random.below(4) == 0) value = random.below(2) ? 0.0f : -0.0f;
      if (random.below(20) == 0) value = NAN;
    }
    check_all(x, {1, 2, 7, static_cast<int>(x.size()) / 3, static_cast<int>(x.size())}, "of any bits");
  }
}

TEST("the largest of a vocabulary: first of equals, anywhere") {
  check::Random random(4);
  const std::vector<float> noise = random.normals(262144);
  for (const Backend* backend : backends()) {
    for (const int at : {0, 1, 15, 2047, 2048, 131072, 262142}) {
      std::vector<float> x = noise;
      x[static_cast<size_t>(at)] = x[static_cast<size_t>(at) + 1] = x.back() = 100;
      int32_t out = -1;
      backend->top_k(x.data(), 262144, 1, Order::value, &out, nullptr, alone);
      CHECK_EQ(out, at);
    }
    const std::vector<float> nothing(1000, NAN);
    int32_t out = -1;
    backend->top_k(nothing.data(), 1000, 1, Order::index, &out, nullptr, alone);
    CHECK_EQ(out, 0);
  }
}
