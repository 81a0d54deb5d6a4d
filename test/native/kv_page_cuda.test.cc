// Pages on the emulated device: byte for byte those of the reference, many jobs a launch.
#include "cache_problem.h"
#include "cuda_team.h"
#include "simt/simt.h"

using namespace kernel_test;

namespace {

const DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::kivi4, DType::kivi2};
const Side kSides[] = {Side::keys, Side::values};

std::vector<int> head_sizes(DType type) {
  if (type == DType::f32 || type == DType::f16 || type == DType::bf16) return {16, 64, 80};
  return {32, 96, 256};
}

// All rows, from `backend`.
Bytes stored(const Backend& backend, Side side, DType type, const Matrix& x, Team& team) {
  const int d = x.columns();
  Bytes page(backend.page_bytes(side, type, d), 0);
  if (side == Side::keys && is_kivi(type)) {
    backend.store_kivi_keys(type, d, x.data(), x.ld(), page.data(), team);
  } else {
    const StoreJob job{side, type, x.data(), x.ld(), x.rows(), page.data(), 0};
    backend.store_rows(d, &job, 1, team);
  }
  return page;
}

bool same(const Bytes& a, const Bytes& b) { return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size()); }

template <class F>
void each_page(F&& f) {
  for (const DType type : kTypes) {
    for (const int d : head_sizes(type)) {
      for (const Side side : kSides) f(side, type, d);
    }
  }
}

}  // namespace

TEST("the same bytes as the reference, numbers of every kind") {
  check::Random random(3);
  each_page([&](Side side, DType type, int d) {
    Matrix x = Matrix::normal(32, d, random, 3);
    for (int c = 0; c < d; ++c)
      x.at(5, c) = 0, x.at(6, c) = -2.5f, x.at(7, c) = 1e-42f, x.at(8, c) = c % 2 ? 3.f : -3.f;
    const Bytes want = stored(reference_backend(), side, type, x, alone);
    simt::each_schedule([&] {
      DeviceTeam device;
      const Bytes got = stored(device.backend(), side, type, x, device.team());
      device.wait();
      CHECK(same(got, want));
    });
  });
}

TEST("runs of rows of several pages in one call, in any order") {
  check::Random random(4);
  for (const DType type : kTypes) {
    const int d = 64;
    const Matrix x = Matrix::normal(32, d, random);
    for (const Side side : kSides) {
      if (side == Side::keys && is_kivi(type)) continue;
      const Bytes want = stored(reference_backend(), side, type, x, alone);
      simt::each_schedule([&] {
        DeviceTeam device;
        const Bytes a(want.size(), 0), b(want.size(), 0);
        for (const int first : {20, 3, 0, 31, 4}) {
          const int n = first == 0 ? 3 : first == 3 ? 1 : first == 4 ? 16 : 32 - first;
          StoreJob jobs[2] = {{side, type, &x.at(first, 0), x.ld(), n, a.data(), first},
                              {side, type, &x.at(first, 0), x.ld(), n, b.data(), first}};
          device.backend().store_rows(d, jobs, 2, device.team());
          jobs[0] = jobs[1] = {};
        }
        device.wait();
        CHECK(same(a, want) && same(b, want));
      });
    }
  }
}

TEST("loading is exact and takes any rows; a moved row leaves the others") {
  check::Random random(5);
  each_page([&](Side side, DType type, int d) {
    const Matrix x = Matrix::normal(32, d, random);
    const Bytes page = stored(reference_backend(), side, type, x, alone),
                moved = stored(reference_backend(), side, type, x, alone);
    const Piece piece{page.data(), 11, 9, type};
    Matrix want(9, d);
    reference_backend().load_rows(side, d, piece, want.data(), want.ld(), alone);
    const bool moves = side == Side::values || !is_kivi(type);
    for (int k = 0; k < 2 && moves; ++k) {
      reference_backend().copy_row(side, type, d, page.data(), 30 - k, moved.data(), 3 + 16 * k, alone);
    }
    simt::each_schedule([&] {
      DeviceTeam device;
      Matrix got(9, d);
      const Bytes to = stored(reference_backend(), side, type, x, alone);
      device.backend().load_rows(side, d, piece, got.data(), got.ld(), device.team());
      for (int k = 0; k < 2 && moves; ++k) {
        device.backend().copy_row(side, type, d, page.data(), 30 - k, to.data(), 3 + 16 * k, device.team());
      }
      device.wait();
      CHECK(got.same_bits(want));
      CHECK(same(to, moved));
    });
  });
}
