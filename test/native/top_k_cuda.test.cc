// Top k on the emulated device against the reference, which sorts.
#include "cuda_team.h"
#include "kernel_test.h"
#include "simt/simt.h"

using namespace kernel_test;
using tokensieve::kernels::Order;
using tokensieve::kernels::reference_backend;

namespace {

void check_all(const std::vector<float>& x, const std::vector<int>& ks, const std::string& what) {
  const int n = static_cast<int>(x.size());
  for (const int k : ks) {
    for (const Order order : {Order::index, Order::value}) {
      std::vector<uint64_t> scratch(x.size());
      std::vector<int32_t> want(static_cast<size_t>(k) + 1, -7);
      reference_backend().top_k(x.data(), n, k, order, want.data(), scratch.data(), alone);
      simt::each_schedule([&] {
        DeviceTeam device;
        std::vector<int32_t> got(static_cast<size_t>(k) + 1, -7);
        device.backend().top_k(x.data(), n, k, order, got.data(), k == 1 ? nullptr : scratch.data(), device.team());
        device.wait();
        check::expect(got == want, __FILE__, __LINE__, "top " + std::to_string(k) + " of " + std::to_string(n) + what);
      });
    }
  }
}

}  // namespace

TEST("short rows, with and without ties") {
  check::Random random(1);
  for (const int n : {1, 2, 33, 70}) {
    std::vector<float> x = random.normals(static_cast<size_t>(n));
    check_all(x, {0, 1, (n + 1) / 2, n}, " distinct");
    for (float& value : x) value = std::round(value);
    check_all(x, {1, (n + 1) / 2, n}, " with ties");
  }
}

TEST("numbers of any bits, NaN, both zeros, infinities") {
  check::Random random(2);
  std::vector<float> x(600);
  for (float& value : x) {
    const uint32_t bits = static_cast<uint32_t>(random.next());
    std::memcpy(&value, &bits, 4);
    if (random.below(4) == 0) value = random.below(2) ? 0.0f : -0.0f;
    if (random.below(20) == 0) value = random.below(2) ? NAN : -INFINITY;
  }
  check_all(x, {1, 7, 600}, " of any bits");
  check_all(std::vector<float>(300, NAN), {1, 5}, " all NaN");
}

TEST("more pairs than a block sorts, and more numbers than it has threads") {
  check::Random random(3);
  const std::vector<float> x = random.normals(2600);
  check_all(x, {1, 40, 2500}, " distinct");
  check_all(std::vector<float>(2100, -3.5f), {2060}, " all equal");
}
