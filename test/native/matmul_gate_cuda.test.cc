// Kernel matmul_gate on emulated devices: against the reference, which is given the numbers that are multiplied (activations
// rounded to bf16, of more than 8 tokens weights too), and bit for bit against matmul and gate, one after the other.
#include "cuda_team.h"
#include "kernels/cuda/matmul_parts.h"
#include "matmul_problem.h"

using namespace matmul_problem;

namespace {

using kernel_test::DeviceTeam;

const Backend& device() { return DeviceTeam::backend(); }

constexpr Activation kActivations[] = {Activation::silu, Activation::gelu_tanh, Activation::gelu,
                                       Activation::quick_gelu};

struct Problem {
  Problem(DType type, int half_rows, int wanted, int n, uint64_t seed)
      : half(half_rows),
        turns(turns_of(half)),
        apart(device(), type, 2 * half, columns(type, wanted), seed),
        together(device(), type, 2 * half, columns(type, wanted), seed, turns.data()),
        in(device(), n, columns(type, wanted), seed + 1),
        ldo(static_cast<size_t>(half) + 3),
        bias(static_cast<size_t>(2 * half)) {
    for (size_t r = 0; r < bias.size(); r++) bias[r] = static_cast<float>(turns[r]) / 64 - 0.5f;
  }

  static std::vector<int32_t> turns_of(int half) {
    std::vector<int32_t> turns(static_cast<size_t>(2 * half));
    for (int r = 0; r < 2 * half; r++) turns[static_cast<size_t>(r)] = (r % 32 < 16 ? 0 : half) + r / 32 * 16 + r % 16;
    return turns;
  }
  std::string name(int n) const {
    return std::string(traits(apart.packed.type).name) + " " + std::to_string(2 * half) + " x " +
           std::to_string(in.cols) + ", tokens " + std::to_string(n);
  }

  std::vector<float> run(int n, Activation act, bool biased) const {
    std::vector<float> out(ldo * static_cast<size_t>(n), 7.5f);
    DeviceTeam team;
    device().matmul_gate(together.packed, in.first(n), biased ? bias.data() : nullptr, act, out.data(), ldo,
                         team.team());
    team.wait();
    return out;
  }

  std::vector<float> one_after_the_other(int n, Activation act, bool biased) const {
    std::vector<float> plain_bias(bias.size()), out(ldo * static_cast<size_t>(n), 7.5f);
    for (size_t r = 0; r < bias.size(); r++) plain_bias[static_cast<size_t>(turns[r])] = bias[r];
    const std::vector<float> sums = apart.times(in.first(n), 1, biased ? plain_bias.data() : nullptr);
    device().gate(act, sums.data(), static_cast<size_t>(2 * half) + 5, n, half, out.data(), ldo, alone);
    return out;
  }

  int half;
  std::vector<int32_t> turns;
  Matrix apart, together;
  Input in;
  size_t ldo;
  std::vector<float> bias;  // in the order of the packed rows
};

// Packed row r of what n tokens are multiplied with.
std::vector<float> weights(const Problem& p, int n) {
  const size_t cols = static_cast<size_t>(p.in.cols);
  std::vector<float> w(p.apart.plain.size());
  for (size_t r = 0; r < p.turns.size(); r++) {
    for (size_t k = 0; k < cols; k++) {
      const float plain = p.apart.plain[static_cast<size_t>(p.turns[r]) * cols + k];
      const bool rounds = p.apart.packed.type != DType::f32 && n > cuda::kFewTokens;
      w[r * cols + k] = rounds ? bf16_to_float(float_to_bf16(plain)) : plain;
    }
  }
  return w;
}

// Of |w| |x| in packed row r and token t.
double size_of(const std::vector<float>& w, const std::vector<float>& x, size_t cols, size_t r, size_t t) {
  double size = 1;  // of the bias
  for (size_t k = 0; k < cols; k++) size += std::fabs(static_cast<double>(w[r * cols + k]) * x[t * cols + k]);
  return size;
}

void compare(const Problem& p, int n, Activation act) {
  const size_t cols = static_cast<size_t>(p.in.cols), rows = static_cast<size_t>(n), half = static_cast<size_t>(p.half);
  const DType type = p.apart.packed.type;
  const std::vector<float> w = weights(p, n);
  std::vector<float> x(rows * cols), want(rows * half), sums(rows * half * 2);
  for (size_t i = 0; i < x.size(); i++) {
    const int t = static_cast<int>(i / cols), k = static_cast<int>(i % cols);
    x[i] = static_cast<float>(p.in.value(device().activation_kind(type), t, k));
  }
  Prepared as_they_are{};
  as_they_are.n = n, as_they_are.cols = p.in.cols, as_they_are.f32 = x.data(), as_they_are.ld = cols;
  const PackedMatrix plain{DType::f32, 2 * p.half, p.in.cols, reinterpret_cast<const uint8_t*>(w.data())};
  reference_backend().matmul(plain, as_they_are, p.bias.data(), false, sums.data(), 2 * half, alone);
  reference_backend().matmul_gate(plain, as_they_are, p.bias.data(), act, want.data(), half, alone);
  const std::vector<float> out = p.run(n, act, true);
  const double slack = cuda::has_minimum(type) && n > cuda::kFewTokens ? 3e-4 : 3e-6;
  double worst = 0;
  for (size_t t = 0; t < rows; t++) {
    for (size_t i = 0; i < half; i++) {
      const size_t gate = i / 16 * 32 + i % 16, up = gate + 16;  // an activation is no steeper than 1.2
      const double a = std::fabs(sums[t * 2 * half + gate]), b = std::fabs(sums[t * 2 * half + up]);
      const double allowed = slack * 1.2 * (size_of(w, x, cols, gate, t) * b + size_of(w, x, cols, up, t) * a) + 1e-5;
      const double error = std::fabs(out[p.ldo * t + i] - static_cast<double>(want[half * t + i]));
      worst = std::isnan(error) ? 1e30 : std::fmax(worst, error / allowed);
    }
    for (size_t i = half; i < p.ldo; i++) CHECK_EQ(out[p.ldo * t + i], 7.5f);
  }
  check::expect(worst <= 1, __FILE__, __LINE__,
                p.name(n) + " is off by " + check::number(worst) + " times what is allowed");
}

// The product by tiles of a size, whatever the shape would choose.
std::vector<float> tiled(const Problem& p, Activation act, cuda::Tile tile) {
  const PackedMatrix& w = p.together.packed;
  std::vector<float> out(p.ldo * static_cast<size_t>(p.in.n), 7.5f);
  const cuda::Output to{out.data(), p.ldo, p.bias.data(), w.rows, p.in.n, false, true, cuda::any_activation(act)};
  const cuda::Tokens x{p.in.p.bf16, p.in.n, p.in.cols, (p.in.cols + 1) / 2 * 2, p.in.cols % 8 == 0};
  cuda::multiply_tiles(w.type, tile, cuda::panels_of(w.type, w.data, w.rows, w.cols), x, to, cuda::stream_of(alone));
  return out;
}

TEST("every type, few tokens and many, is near the reference") {
  for (const DType type : kTypes) {
    const Problem p(type, 48, 96, 9, 11);
    for (const int n : {1, 8, 9}) compare(p, n, Activation::silu);
  }
}

TEST("rows of any length, more groups than a pass over them, more rows and tokens than a tile") {
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (const int cols : {1, 31, 44}) {
      const Problem p(type, 16, cols, 12, 21);
      for (const int n : {3, 12}) compare(p, n, Activation::gelu_tanh);
    }
  }
  compare(Problem(DType::q4_0, 16, 1632, 2, 22), 2, Activation::silu);  // every warp has more than three groups
  compare(Problem(DType::q5_k, 16, 768, 9, 23), 9, Activation::silu);  // around the ring of stages
  compare(Problem(DType::q8_0, 80, 64, 67, 24), 67, Activation::gelu);
  compare(Problem(DType::f32, 48, 40, 67, 25), 67, Activation::quick_gelu);
}

TEST("the bits are those of matmul and gate, with every activation, with a bias and without") {
  for (const DType type : kTypes) {
    const Problem p(type, 48, type == DType::q4_1 ? 608 : 64, 10, 31);
    for (const int n : {1, 5, 10}) {
      for (const Activation act : kActivations) {
        if (type != DType::f32 && type != DType::q4_1 && act != Activation::silu) continue;
        for (const bool biased : {false, true})
          check::expect(p.run(n, act, biased) == p.one_after_the_other(n, act, biased), __FILE__, __LINE__, p.name(n));
      }
    }
  }
}

TEST("large tiles give the bits of small ones") {
  for (const DType type : kTypes) {
    if (type == DType::f32) continue;
    const Problem p(type, 48, 96, 10, 41);
    CHECK(tiled(p, Activation::silu, cuda::Tile::large) == p.run(10, Activation::silu, true));
  }
  const Problem p(DType::q5_1, 144, 64, 132, 42);
  CHECK(tiled(p, Activation::gelu, cuda::Tile::large) == tiled(p, Activation::gelu, cuda::Tile::small));
}

}  // namespace
