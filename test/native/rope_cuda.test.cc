// Rope and hadamard on the emulated device, the kernels that turn heads in place, against the reference.
#include "cuda_team.h"
#include "kernel_test.h"
#include "simt/simt.h"

using namespace kernel_test;
using tokensieve::kernels::reference_backend;

TEST("rope: rotated sizes, whole and partial heads") {
  check::Random random(1);
  for (const int rotated : {0, 2, 20, 64, 256}) {
    for (const int rest : {0, 6}) {
      const int n = 5, heads = 3, size = rotated + rest, half = rotated / 2;
      if (size == 0) continue;
      std::vector<float> cos, sin;
      for (int i = 0; i < n * half; ++i) {
        const double angle = 100 * random.uniform();
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
      const Matrix x = Matrix::normal(n, heads * size, random);
      Matrix want = x;
      reference_backend().rope(want.data(), want.ld(), n, heads, size, rotated, cos.data(), sin.data(), alone);
      simt::each_schedule([&] {
        DeviceTeam device;
        Matrix y = x;
        device.backend().rope(y.data(), y.ld(), n, heads, size, rotated, cos.data(), sin.data(), device.team());
        device.wait();
        check_close(y, want, 1e-6, 5e-7, "rope of " + std::to_string(rotated));
      });
    }
  }
}

TEST("hadamard: every size; what stands beside the heads stays") {
  check::Random random(2);
  for (int size = 16; size <= tokensieve::kernels::kMaxHadamard; size *= 2) {
    const Matrix x = Matrix::normal(3, 5 * size + 7, random);
    Matrix want = x;
    reference_backend().hadamard(want.data(), want.ld(), 3, 5, size, alone);
    simt::each_schedule([&] {
      DeviceTeam device;
      Matrix y = x;
      device.backend().hadamard(y.data(), y.ld(), 3, 5, size, device.team());
      device.wait();
      check_close(y, want, 2e-6, 1e-6, "hadamard of " + std::to_string(size));
    });
  }
}
