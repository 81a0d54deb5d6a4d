// Kernels matmul, prepare, pack and embedding of every runnable instruction set, against plain loops over the
// dequantized GGUF rows.
#include "matmul_problem.h"

using namespace matmul_problem;
using kernel_test::backends;

namespace {

// Against a plain loop over the activations as prepared (rounding of f32 sums only) and as given (their rounding too).
void compare(const Matrix& m, const Input& in, Kind kind, const std::vector<float>& out) {
  const size_t ldo = static_cast<size_t>(m.packed.rows) + 5, cols = static_cast<size_t>(in.cols);
  for (int t = 0; t < in.n; t++) {
    for (int r = 0; r < m.packed.rows; r++) {
      double sum = 0, exact = 0, size = 0, slack = 0;
      for (int k = 0; k < in.cols; k++) {
        const double w = m.plain[static_cast<size_t>(r) * cols + static_cast<size_t>(k)], x = in.value(kind, t, k);
        const double given = in.value(Kind::f32, t, k);
        sum += w * x;
        exact += w * given;
        size += std::fabs(w * x);
        if (kind == Kind::bf16) slack += std::fabs(w * given) / 256;
        if (kind == Kind::int8)
          slack += std::fabs(w) * in.scale[static_cast<size_t>(t) * (cols / 32) + static_cast<size_t>(k) / 32] * 0.51;
      }
      const float got = out[ldo * static_cast<size_t>(t) + static_cast<size_t>(r)];
      CHECK_NEAR(got, sum, 3e-6 * size + 1e-9);
      CHECK_NEAR(got, exact, slack + 3e-6 * size + 1e-9);
    }
  }
}

// In all forms.
void check_rounded(const Input& a, const Input& b) {
  CHECK(a.brain == b.brain);
  CHECK(a.scale == b.scale);
  CHECK(a.sum == b.sum);
  const size_t bytes = static_cast<size_t>(a.n) * static_cast<size_t>(a.cols);
  if (a.cols % 32 == 0) CHECK(std::memcmp(a.q.get(), b.q.get(), bytes) == 0);
}

TEST("matmul equals a plain loop for every type and shape") {
  struct Shape {
    int rows, cols, n;
  };
  const Shape shapes[] = {{1, 32, 1},    {16, 64, 2},   {17, 96, 7}, {50, 256, 13},
                          {33, 1056, 5}, {31, 2048, 3}, {40, 31, 6}, {5, 1, 14}};
  for (const Backend* backend : backends()) {
    for (const DType type : kTypes) {
      for (const Shape& s : shapes) {
        const Matrix m(*backend, type, s.rows, columns(type, s.cols), 11);
        const Input in(*backend, s.n, m.packed.cols, 12);
        compare(m, in, backend->activation_kind(type), m.times(in.p, 2));
      }
    }
  }
}

TEST("what one rounding leaves of activations, rounded too, makes products nearly exact") {
  for (const Backend* backend : backends()) {
    for (const DType type : kTypes) {
      const Kind kind = backend->activation_kind(type);
      if (kind == Kind::f32) continue;
      for (const int n : {1, 7}) {
        const Matrix m(*backend, type, 33, columns(type, 512), 31);
        Input in(*backend, n, m.packed.cols, 32);
        const size_t cols = static_cast<size_t>(in.cols), ldo = static_cast<size_t>(m.packed.rows) + 5;
        std::vector<float> rest(static_cast<size_t>(n) * cols);
        Prepared p = in.p;
        if (kind == Kind::bf16) p.q = nullptr, p.scale = nullptr, p.sum = nullptr;
        p.rest = rest.data();
        backend->prepare(p, alone);
        for (int t = 0; t < n; t++) {
          for (int k = 0; k < in.cols; k++) {
            const double x = in.value(Kind::f32, t, k), left = x - in.value(kind, t, k);
            CHECK_NEAR(rest[static_cast<size_t>(t) * cols + static_cast<size_t>(k)], left, 1e-7 * std::fabs(x) + 1e-12);
          }
        }
        std::vector<float> out = m.times(p, 1);
        p.f32 = rest.data(), p.ld = cols, p.rest = nullptr;
        backend->prepare(p, alone);
        backend->matmul(m.packed, p, nullptr, true, out.data(), ldo, alone);
        for (int t = 0; t < n; t++) {
          for (int r = 0; r < m.packed.rows; r++) {
            double exact = 0, size = 0;
            for (int k = 0; k < in.cols; k++) {
              const double w = m.plain[static_cast<size_t>(r) * cols + static_cast<size_t>(k)];
              const double x = in.value(Kind::f32, t, k);
              exact += w * x, size += std::fabs(w * x);
              size += std::fabs(w) * 20 * (kind == Kind::int8);  // a block's largest is 20 times a normal number
            }
            CHECK_NEAR(out[ldo * static_cast<size_t>(t) + static_cast<size_t>(r)], exact, 4e-5 * size + 1e-9);
          }
        }
      }
    }
  }
}

TEST("an output depends on its row and its token only, bit for bit") {
  for (const Backend* backend : backends()) {
    for (const DType type : kTypes) {
      const Matrix m(*backend, type, 50, columns(type, 1280), 21);
      const Input in(*backend, 100, m.packed.cols, 22);
      const std::vector<float> all = m.times(in.p, 1);
      for (const int n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 33, 97}) {
        CHECK(same(all, m.times(in.first(n), n % 3 + 1), 55 * static_cast<size_t>(n)));
      }
      CHECK(same(all, m.times(in.p, 2), all.size()));
      CHECK(same(all, m.times(in.p, 3), all.size()));
    }
  }
}

TEST("the largest codes and activations overflow nothing") {
  for (const Backend* backend : backends()) {
    for (const DType type : kTypes) {
      if (traits(type).block == 1) continue;
      for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
        const Matrix m(*backend, type, 17, 256, 25, nullptr, fill);
        Input in(*backend, 9, 256, 26);
        for (size_t k = 1; k < in.x.size(); k++) {
          const size_t token = (k - 1) / in.ld;
          in.x[k] = token % 3 == 0 || (token % 3 == 1 && k % 2) ? 1.0f : -1.0f;  // all up, alternating, all down
        }
        in.prepare(*backend, 1);
        compare(m, in, backend->activation_kind(type), m.times(in.p, 1));
        CHECK(same(m.times(in.first(3), 1), m.times(in.p, 1), 22 * 3));
      }
    }
  }
}

TEST("more tokens than a task takes") {
  for (const Backend* backend : backends()) {
    for (const DType type : {DType::q4_1, DType::f16}) {
      const Matrix m(*backend, type, 70, 64, 23);
      const Input in(*backend, 1300, 64, 24);
      compare(m, in, backend->activation_kind(type), m.times(in.p, 2));
    }
  }
}

TEST("bias is added, and the product to what is there") {
  for (const Backend* backend : backends()) {
    for (const int n : {1, 9}) {
      const Matrix m(*backend, DType::q8_0, 37, 64, 31);
      const Input in(*backend, n, 64, 32);
      std::vector<float> bias(37);
      for (size_t r = 0; r < bias.size(); r++) bias[r] = static_cast<float>(r) - 11.25f;
      const std::vector<float> product = m.times(in.p, 1), biased = m.times(in.p, 1, bias.data());
      const std::vector<float> both = m.times(in.p, 2, bias.data(), true);
      for (size_t t = 0; t < static_cast<size_t>(n); t++) {
        for (size_t r = 0; r < bias.size(); r++) {
          CHECK_NEAR(biased[42 * t + r], static_cast<double>(product[42 * t + r]) + bias[r], 4e-6);
          CHECK_NEAR(both[42 * t + r], static_cast<double>(biased[42 * t + r]) + 7.5, 4e-6);
        }
      }
    }
  }
}

TEST("map permutes the rows") {
  std::vector<int32_t> map(45);
  for (int r = 0; r < 45; r++) map[static_cast<size_t>(r)] = (r * 7 + 3) % 45;
  for (const Backend* backend : backends()) {
    for (const DType type : kTypes) {
      const int cols = columns(type, 32);
      const Matrix plain(*backend, type, 45, cols, 41), mapped(*backend, type, 45, cols, 41, map.data());
      const Input in(*backend, 1, cols, 42);
      const std::vector<float> a = plain.times(in.p, 1), b = mapped.times(in.p, 1);
      for (size_t r = 0; r < 45; r++) CHECK_EQ(b[r], a[static_cast<size_t>(map[r])]);
    }
  }
}

TEST("matmul_gate gives the bits of matmul and gate, one after the other") {
  constexpr int kHalf = 48, kRows = 2 * kHalf;
  std::vector<int32_t> turns(kRows);
  std::vector<float> bias(kRows), turned(kRows);
  for (size_t r = 0; r < kRows; r++) bias[r] = static_cast<float>(r) / 64 - 0.5f;
  for (size_t r = 0; r < kRows; r++) {
    const size_t row = (r % 32 < 16 ? 0 : kHalf) + r / 32 * 16 + r % 16;
    turns[r] = static_cast<int32_t>(row);
    turned[r] = bias[row];
  }
  for (const Backend* backend : backends()) {
    for (const DType type : kTypes) {
      const int cols = columns(type, type == DType::q8_0 ? 2080 : 96);
      const Matrix apart(*backend, type, kRows, cols, 81), together(*backend, type, kRows, cols, 81, turns.data());
      const Input in(*backend, 200, cols, 82);
      const std::vector<float> both = apart.times(in.p, 1, bias.data());
      std::vector<float> want(200 * kHalf);
      for (const Activation act : {Activation::silu, Activation::gelu_tanh, Activation::gelu, Activation::quick_gelu}) {
        Team team(2);
        backend->gate(act, both.data(), kRows + 5, 200, kHalf, want.data(), kHalf, team);
        for (const int n : {1, 3, 5, 16, 17, 200}) {
          std::vector<float> out(static_cast<size_t>(n) * (kHalf + 3), 7.5f);
          backend->matmul_gate(together.packed, in.first(n), turned.data(), act, out.data(), kHalf + 3, team);
          for (size_t t = 0; t < static_cast<size_t>(n); t++) {
            const float* row = out.data() + (kHalf + 3) * t;
            CHECK(std::memcmp(row, want.data() + kHalf * t, kHalf * sizeof(float)) == 0);
            CHECK_EQ(row[kHalf], 7.5f);
          }
        }
      }
    }
  }
}

TEST("gate_prepare gives the bits of matmul_gate and prepare, one after the other") {
  for (const Backend* backend : backends()) {
    if (backend->gate_prepare == nullptr) continue;
    for (const DType type : kTypes) {
      for (const int half : {32, 96, 352}) {
        const int cols = columns(type, type == DType::q8_0 ? 2080 : 96);
        const Matrix m(*backend, type, 2 * half, cols, 83);
        const Input in(*backend, 200, cols, 84);
        const std::vector<float> bias = check::Random(85).normals(2 * static_cast<size_t>(half));
        for (const int n : {1, 3, 5, 16, 17, 200}) {
          Input mine(*backend, n, half, 86), want(*backend, n, half, 86);
          Team team(2);
          backend->matmul_gate(m.packed, in.first(n), bias.data(), Activation::silu, want.x.data() + 1, want.ld, team);
          want.prepare(*backend, 1);
          mine.make_room();
          mine.p.f32 = nullptr;
          backend->gate_prepare(m.packed, in.first(n), bias.data(), Activation::silu, mine.p, team);
          check_rounded(mine, want);
        }
      }
    }
  }
}

TEST("embedding gives the bits of the dequantized row") {
  const int32_t ids[] = {0, 34, 15, 16, 7, 34};
  for (const Backend* backend : backends()) {
    for (const DType type : kTypes) {
      for (const int wanted : {32, 51, 288}) {
        const Matrix m(*backend, type, 35, columns(type, wanted), 51);
        const size_t cols = static_cast<size_t>(m.packed.cols);
        std::vector<float> out(cols * 6, 7.5f);
        for (const float scale : {1.0f, 24.3f}) {
          Team team(2);
          backend->embedding(m.packed, ids, 6, scale, out.data(), team);
          for (size_t i = 0; i < 6; i++) {
            for (size_t k = 0; k < cols; k++)
              CHECK_EQ(out[i * cols + k], m.plain[static_cast<size_t>(ids[i]) * cols + k] * scale);
          }
        }
      }
    }
  }
}

TEST("prepare rounds as the reference does, whatever the team") {
  for (const Backend* backend : backends()) {
    for (const int cols : {32, 33, 64, 2080}) {
      Input mine(*backend, 23, cols, 61);
      for (size_t k = 1; k < mine.x.size(); k += 37) mine.x[k] = 1e-33f;
      Input other(reference_backend(), 23, cols, 61);
      other.x = mine.x;
      other.prepare(reference_backend(), 1);
      for (const int threads : {1, 3}) {
        mine.prepare(*backend, threads);
        check_rounded(mine, other);
      }
    }
  }
}

TEST("norm_prepare gives the bits of rms_norm and prepare, one after the other") {
  for (const Backend* backend : backends()) {
    if (backend->norm_prepare == nullptr) continue;
    for (const int cols : {32, 33, 511, 576, 1056}) {
      Input in(*backend, 23, cols, 63), want(*backend, 23, cols, 63);
      const std::vector<float> weight = check::Random(64).normals(static_cast<size_t>(cols));
      for (const float* w : {weight.data(), static_cast<const float*>(nullptr)}) {
        for (const int threads : {1, 3}) {
          Team team(threads);
          backend->rms_norm(in.x.data() + 1, in.ld, 23, 1, cols, w, 1e-5f, nullptr, want.x.data() + 1, in.ld, team);
          want.prepare(*backend, threads);
          in.make_room();
          backend->norm_prepare(in.p, w, 1e-5f, team);
          check_rounded(in, want);
        }
      }
    }
  }
}

TEST("activations come back within half a step") {
  for (const Backend* backend : backends()) {
    const Input in(*backend, 5, 320, 71);
    for (int t = 0; t < 5; t++) {
      for (int k = 0; k < 320; k++) {
        const double step = in.scale[static_cast<size_t>(t * 10 + k / 32)];
        CHECK_NEAR(in.value(Kind::int8, t, k), in.value(Kind::f32, t, k), step * 0.501);
      }
    }
    CHECK_EQ(in.scale[0], 0.0f);  // its first block is all zero
    CHECK_EQ(in.sum[0], 0);
  }
}

}  // namespace
