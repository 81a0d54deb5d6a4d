// Kernel screen and matrices in two planes: every instruction set against its own plain packing, whose products are held
// to loops in matmul.test.cc.
#include <limits>

#include "matmul_problem.h"

using namespace matmul_problem;
using kernel_test::backends;

namespace {

constexpr int kNothing = -7;

// The same rows as Matrix packs them, in two planes.
struct Planes {
  Planes(const Backend& b, const std::vector<uint8_t>& source, int rows, int cols) : backend(b) {
    const PlaneBytes bytes = b.plane_bytes(DType::q8_0, rows, cols);
    coarse = aligned(bytes.coarse), fine = aligned(bytes.fine), reach = aligned(bytes.reach);
    std::memset(coarse.get(), 0, bytes.coarse), std::memset(fine.get(), 0, bytes.fine);
    std::memset(reach.get(), 0, bytes.reach);
    w = {DType::q8_0, rows, cols, coarse.get(), fine.get(), reach.get()};
    for (int row = 0; row < rows; row += 16) {
      b.pack_planes(source.data(), w, row, row + 16 < rows ? row + 16 : rows, coarse.get(), fine.get(), reach.get());
    }
  }
  std::vector<Screened> screen(const Prepared& x, int threads, float* upper = nullptr) const {
    Team team(threads);
    std::vector<Screened> out(static_cast<size_t>(x.n), {kNothing, kNothing});
    const Bytes scratch = aligned(static_cast<size_t>(x.n) * static_cast<size_t>(w.cols + 128));
    backend.screen(w, x, out.data(), upper, scratch.get(), team);
    return out;
  }

  const Backend& backend;
  Bytes coarse, fine, reach;
  PackedMatrix w;
};

struct Problem {
  Problem(const Backend& b, int rows, int cols, int n, uint64_t seed, int fill = -1)
      : plain(b, DType::q8_0, rows, cols, seed, nullptr, fill), in(b, n, cols, seed + 1) {}

  // Weights anew from `source`, which a test has changed.
  void repack() {
    const Backend& b = plain.backend;
    for (int row = 0; row < plain.packed.rows; row += 16)
      b.pack(DType::q8_0, plain.source.data(), plain.packed.rows, plain.packed.cols, nullptr, row,
             row + 16 < plain.packed.rows ? row + 16 : plain.packed.rows, plain.data.get());
  }
  Planes planes() const { return Planes(plain.backend, plain.source, plain.packed.rows, plain.packed.cols); }
  uint8_t* block(int row, int b) {
    return plain.source.data() +
           34 * (static_cast<size_t>(plain.packed.cols) / 32 * static_cast<size_t>(row) + static_cast<size_t>(b));
  }

  Matrix plain;
  Input in;
};

std::vector<const Backend*> with_planes() {
  std::vector<const Backend*> found;
  for (const Backend* backend : backends()) {
    if (backend->screen) found.push_back(backend);
  }
  return found;
}

// Plain loop: the first of the largest, NaN counting as less than all.
int largest(const float* values, int n) {
  int at = 0;
  for (int i = 1; i < n; i++) {
    if (values[i] > values[at] || (values[at] != values[at] && values[i] == values[i])) at = i;
  }
  return at;
}

// Bounds hold, and with and without them the row is that of the plain product, or none.
void check_screen(const Problem& p, bool must_find) {
  const Planes planes = p.planes();
  const int rows = p.plain.packed.rows;
  for (int n = 1; n <= (p.in.n < kScreened ? p.in.n : kScreened); n++) {
    const std::vector<float> out = p.plain.times(p.in.first(n), 1);
    std::vector<float> upper(static_cast<size_t>(n * rows), std::numeric_limits<float>::quiet_NaN());
    const std::vector<Screened> all = planes.screen(p.in.first(n), 2, upper.data());
    for (const int threads : {1, 2, 3}) {
      const std::vector<Screened> found = planes.screen(p.in.first(n), threads);
      for (int t = 0; t < n; t++) {
        const float* outputs = out.data() + static_cast<size_t>(t) * (static_cast<size_t>(rows) + 5);
        const int want = largest(outputs, rows);
        const Screened& got = found[static_cast<size_t>(t)];
        CHECK(got.row == want || (got.row == -1 && !must_find));
        CHECK(all[static_cast<size_t>(t)].row == want || !must_find);
        for (int r = 0; must_find && threads == 1 && r < rows; r++)
          CHECK(outputs[r] <= upper[static_cast<size_t>(t * rows + r)]);
      }
    }
  }
}

TEST("two planes give the bits of the plain packing, to products of any size and to embeddings") {
  for (const Backend* backend : with_planes()) {
    for (const int cols : {32, 576, 800, 2080}) {
      const Problem p(*backend, 50, cols, 200, 11);
      const Planes planes = p.planes();
      std::vector<float> bias(50, 0.25f);
      for (const int n : {1, 2, 4, 5, 16, 17, 200}) {
        Team team(2);
        std::vector<float> out(static_cast<size_t>(n) * 55, 7.5f);
        backend->matmul(planes.w, p.in.first(n), bias.data(), true, out.data(), 55, team);
        CHECK(same(out, p.plain.times(p.in.first(n), 1, bias.data(), true), out.size()));
      }
      const int32_t ids[] = {0, 49, 15, 16, 7, 49};
      std::vector<float> rows(static_cast<size_t>(cols) * 6), want(rows);
      Team team(2);
      backend->embedding(planes.w, ids, 6, 24.3f, rows.data(), team);
      backend->embedding(p.plain.packed, ids, 6, 24.3f, want.data(), team);
      CHECK(same(rows, want, want.size()));
    }
  }
}

TEST("bounds hold and the row is the first of the largest, for random weights") {
  for (const Backend* backend : with_planes()) {
    for (const int rows : {1, 15, 16, 50, 240}) {
      for (const int cols : {32, 96, 640, 2080}) check_screen(Problem(*backend, rows, cols, 4, 21), true);
    }
  }
}

// Every residual at its largest, all of one sign, and activations that follow it: what the bound allows is reached.
TEST("bounds hold where the low bits add all that they can") {
  for (const Backend* backend : with_planes()) {
    for (const int fill : {0x00, 0x07, 0x78, 0x7f, 0x80, 0x87, 0xf8, 0xff}) {
      Problem p(*backend, 40, 640, 4, 31, fill);
      for (size_t k = 1; k < p.in.x.size(); k++) {
        const size_t token = (k - 1) / p.in.ld;
        p.in.x[k] = token == 0 ? 1.0f : token == 1 ? -1.0f : token == 2 && k % 2 ? 1.0f : -0.3f;
      }
      p.in.prepare(*backend, 1);
      for (int row = 0; row < 40; row++) {
        for (int b = 0; b < 20; b++) put_half(p.block(row, b), row % 3 == 0 ? -0.01f : 0.01f);
      }
      p.repack();
      check_screen(p, true);
    }
  }
}

TEST("of equal outputs the first row is taken, in one panel and in others") {
  for (const Backend* backend : with_planes()) {
    Problem p(*backend, 600, 64, 4, 41);
    for (int t = 0; t < 4; t++) {
      for (const int row : {597 - t, 300 + 7 * t, 40 + 3 * t, 44 + 3 * t}) {  // rows that point where the token does
        for (int b = 0; b < 2; b++) {
          put_half(p.block(row, b), 0.05f);
          for (int k = 0; k < 32; k++)
            p.block(row, b)[2 + k] = static_cast<uint8_t>(p.in.value(Kind::f32, t, 32 * b + k) > 0 ? 127 : -127);
        }
      }
    }
    p.repack();
    check_screen(p, true);
    for (const Screened& s : p.planes().screen(p.in.first(kScreened), 2))
      CHECK(s.row >= 40 && s.row < 60 && s.looked <= 600);
  }
}

TEST("outputs that are all zero are equal, of either sign") {
  for (const Backend* backend : with_planes()) {
    Problem p(*backend, 100, 64, 2, 51);
    for (float& x : p.in.x) x = 0;
    p.in.prepare(*backend, 1);
    check_screen(p, true);
  }
}

TEST("what is not finite is given up") {
  for (const Backend* backend : with_planes()) {
    for (const float bad : {HUGE_VALF, -HUGE_VALF, std::numeric_limits<float>::quiet_NaN()}) {
      Problem p(*backend, 100, 64, 2, 61);
      put_half(p.block(37, 1), bad);
      p.repack();
      for (const Screened& s : p.planes().screen(p.in.p, 2)) CHECK_EQ(s.row, -1);
    }
    Problem p(*backend, 100, 64, 2, 62);
    for (float& x : p.in.x) x *= 1e36f;
    p.in.prepare(*backend, 1);
    check_screen(p, false);
  }
}

TEST("a token of which nearly all rows could be the largest is given up, the others are not") {
  for (const Backend* backend : with_planes()) {
    Problem p(*backend, 6000, 320, 2, 71);
    for (int b = 0; b < 10; b++) {  // one row stands out for the second token
      put_half(p.block(77, b), 0.02f);
      for (int k = 0; k < 32; k++)
        p.block(77, b)[2 + k] = static_cast<uint8_t>(p.in.value(Kind::f32, 1, 32 * b + k) > 0 ? 127 : -127);
    }
    for (int row = 0; row < 6000; row++) {
      for (int b = 0; b < 10; b++) put_half(p.block(row, b), row == 77 ? 0.02f : 1e-3f);
    }
    for (int k = 0; k < 320; k++) p.in.x[1 + static_cast<size_t>(k)] = 0;  // the first sees no difference
    p.in.prepare(*backend, 1);
    p.repack();
    const std::vector<Screened> found = p.planes().screen(p.in.p, 2);
    CHECK_EQ(found[0].row, -1);
    CHECK(found[0].looked > 6000 / 8 && found[0].looked < 6000 / 4);
    CHECK_EQ(found[1].row, 77);
    CHECK(found[1].looked < 6000 / 8);
  }
}

TEST("a type without planes has none") {
  for (const Backend* backend : with_planes()) {
    for (const DType type : kTypes) {
      const PlaneBytes bytes = backend->plane_bytes(type, 32, 256);
      CHECK_EQ(bytes.coarse > 0 && bytes.fine > 0 && bytes.reach > 0, type == DType::q8_0);
    }
  }
}

}  // namespace
