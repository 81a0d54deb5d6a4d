// Kernels matmul, prepare, pack and embedding on emulated devices. Up to 8 tokens weights are exact, more are
// multiplied with weights rounded to bf16; f32 weights are exact in both. Small shapes: an mma costs microseconds here.
#include "kernels/cuda/matmul_parts.h"
#include "matmul_problem.h"

using namespace matmul_problem;

namespace {

const Backend& device() { return *cuda_backend(0); }

bool rounds_weights(DType type, int n) { return type != DType::f32 && n > cuda::kFewTokens; }

// Of the weights as multiplied with. Where a scale and a minimum are added up before the code, the sum is off by 2^-17
// of the scale, which now and then rounds another way.
void compare(const Matrix& m, const Input& in, const std::vector<float>& out, const std::string& what) {
  const DType type = m.packed.type;
  const size_t ldo = static_cast<size_t>(m.packed.rows) + 5, cols = static_cast<size_t>(in.cols);
  const double slack = cuda::has_minimum(type) && rounds_weights(type, in.n) ? 3e-4 : 3e-6;
  double worst = 0;
  for (int t = 0; t < in.n; t++) {
    for (int r = 0; r < m.packed.rows; r++) {
      double sum = 0, size = 0;
      for (int k = 0; k < in.cols; k++) {
        const float plain = m.plain[static_cast<size_t>(r) * cols + static_cast<size_t>(k)];
        const double w = rounds_weights(type, in.n) ? bf16_to_float(float_to_bf16(plain)) : plain;
        const double product = w * in.value(device().activation_kind(type), t, k);
        sum += product, size += std::fabs(product);
      }
      const double error = std::fabs(out[ldo * static_cast<size_t>(t) + static_cast<size_t>(r)] - sum);
      worst = std::isnan(error) ? 1e30 : std::fmax(worst, error / (slack * size + 1e-9));
    }
  }
  check::expect(worst <= 1, __FILE__, __LINE__, what + " is off by " + check::number(worst) + " times what is allowed");
}

struct Shape {
  int rows, cols, n;
};

void compare_shape(DType type, const Shape& s, uint64_t seed) {
  const Matrix m(device(), type, s.rows, columns(type, s.cols), seed);
  const Input in(device(), s.n, m.packed.cols, seed + 1);
  compare(m, in, m.times(in.p, 1),
          std::string(traits(type).name) + " " + std::to_string(s.rows) + " x " + std::to_string(m.packed.cols) +
              ", tokens " + std::to_string(s.n));
}

// The product by tiles of a size, whatever the shape would choose.
std::vector<float> tiled(const Matrix& m, const Input& in, cuda::Tile tile) {
  std::vector<float> out(static_cast<size_t>(m.packed.rows + 5) * static_cast<size_t>(in.n), 7.5f);
  const cuda::Output to{out.data(), static_cast<size_t>(m.packed.rows) + 5, nullptr, m.packed.rows, in.n, false};
  const cuda::Tokens x{in.p.bf16, in.n, in.cols, (in.cols + 1) / 2 * 2, in.cols % 8 == 0};
  cuda::multiply_tiles(m.packed.type, tile, cuda::panels_of(m.packed.type, m.packed.data, m.packed.rows, m.packed.cols),
                       x, to, cuda::stream_of(alone));
  return out;
}

TEST("few tokens: every type, 1 to 8 tokens, ends of panels, groups and rows") {
  for (const DType type : kTypes) {
    for (const Shape& s : {Shape{1, 32, 1}, {17, 96, 2}, {35, 288, 7}, {16, 64, 8}}) compare_shape(type, s, 11);
    if (traits(type).block == 1) {
      for (const Shape& s : {Shape{20, 31, 3}, {5, 1, 4}, {17, 44, 8}}) compare_shape(type, s, 12);
    }
  }
  compare_shape(DType::q4_0, {16, 1632, 2}, 13);  // every warp has more than three groups
}

TEST("many tokens: every type, ends of tiles, groups and rows") {
  for (const DType type : kTypes) {
    compare_shape(type, {17, 96, 9}, 21);
    if (traits(type).block == 1) {
      for (const Shape& s : {Shape{20, 31, 12}, {3, 44, 10}}) compare_shape(type, s, 22);
    }
  }
  compare_shape(DType::q4_0, {130, 64, 66}, 23);
  compare_shape(DType::q8_0, {16, 320, 9}, 24);  // around the ring of stages
}

TEST("large tiles give the bits of small ones") {
  for (const DType type : kTypes) {
    if (type == DType::f32) continue;
    const Matrix m(device(), type, 33, columns(type, 96), 31);
    const Input in(device(), 10, m.packed.cols, 32);
    CHECK(tiled(m, in, cuda::Tile::large) == m.times(in.p, 1));
  }
  const Matrix m(device(), DType::q5_1, 273, 64, 33);
  const Input in(device(), 132, 64, 34);
  const std::vector<float> out = tiled(m, in, cuda::Tile::large);
  compare(m, in, out, "large tiles");
  for (size_t t = 0; t < 132; t++) CHECK_EQ(out[278 * t + 273], 7.5f);
}

TEST("an output depends on its row, its token and whether there are few, bit for bit") {
  for (const DType type : kTypes) {
    const Matrix m(device(), type, 18, columns(type, 160), 41);
    const Input in(device(), 20, m.packed.cols, 42);
    const std::vector<float> few = m.times(in.first(8), 1), many = m.times(in.p, 1);
    for (const int n : {1, 2, 5}) CHECK(same(few, m.times(in.first(n), 1), 23 * static_cast<size_t>(n)));
    for (const int n : {9, 16, 17}) CHECK(same(many, m.times(in.first(n), 1), 23 * static_cast<size_t>(n)));
  }
}

TEST("the largest codes, all alike") {
  for (const DType type : kTypes) {
    if (traits(type).block == 1) continue;
    for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
      const Matrix m(device(), type, 17, 256, 51, nullptr, fill);
      const Input in(device(), 3, 256, 52);
      compare(m, in, m.times(in.p, 1), traits(type).name);
    }
  }
}

TEST("bias is added, and the product to what is there") {
  for (const DType type : {DType::f32, DType::q8_0}) {
    for (const int n : {1, 3, 9}) {
      const Matrix m(device(), type, 37, 64, 61);
      const Input in(device(), n, 64, 62);
      std::vector<float> bias(37);
      for (size_t r = 0; r < bias.size(); r++) bias[r] = static_cast<float>(r) - 11.25f;
      const std::vector<float> product = m.times(in.p, 1), both = m.times(in.p, 1, bias.data(), true);
      for (size_t t = 0; t < static_cast<size_t>(n); t++) {
        for (size_t r = 0; r < bias.size(); r++)
          CHECK_NEAR(both[42 * t + r], static_cast<double>(product[42 * t + r]) + bias[r] + 7.5, 1e-5);
      }
    }
  }
}

TEST("map permutes the rows, and rows from a panel on are a matrix") {
  std::vector<int32_t> map(45);
  for (int r = 0; r < 45; r++) map[static_cast<size_t>(r)] = (r * 7 + 3) % 45;
  for (const DType type : kTypes) {
    const int cols = columns(type, 32);
    const Matrix plain(device(), type, 45, cols, 71), mapped(device(), type, 45, cols, 71, map.data());
    const Input in(device(), 1, cols, 72);
    const std::vector<float> a = plain.times(in.p, 1), b = mapped.times(in.p, 1);
    for (size_t r = 0; r < 45; r++) CHECK_EQ(b[r], a[static_cast<size_t>(map[r])]);
    PackedMatrix part = plain.packed;
    part.data += device().packed_bytes(type, 16, cols), part.rows -= 16;
    std::vector<float> rest(29);
    device().matmul(part, in.p, nullptr, false, rest.data(), 29, alone);
    for (size_t r = 0; r < 29; r++) CHECK_EQ(rest[r], a[r + 16]);
  }
}

TEST("embedding gives the bits of the dequantized row") {
  const int32_t ids[] = {0, 34, 15, 16, 7, 34};
  for (const DType type : kTypes) {
    for (const int wanted : {51, 288}) {
      const Matrix m(device(), type, 35, columns(type, wanted), 81);
      const size_t cols = static_cast<size_t>(m.packed.cols);
      std::vector<float> out(cols * 6, 7.5f);
      for (const float scale : {1.0f, 24.3f}) {
        device().embedding(m.packed, ids, 6, scale, out.data(), alone);
        for (size_t i = 0; i < 6; i++) {
          for (size_t k = 0; k < cols; k++)
            CHECK_EQ(out[i * cols + k], m.plain[static_cast<size_t>(ids[i]) * cols + k] * scale);
        }
      }
    }
  }
}

TEST("prepare rounds as the reference does") {
  for (const int cols : {1, 32, 33, 576}) {
    Input mine(device(), 5, cols, 91);
    for (size_t k = 1; k < mine.x.size(); k += 37) mine.x[k] = 1e-33f;
    Input other(reference_backend(), 5, cols, 91);
    other.x = mine.x;
    other.prepare(reference_backend(), 1);
    mine.prepare(device(), 1);
    CHECK(mine.brain == other.brain);
    CHECK(mine.scale == other.scale);
    CHECK(mine.sum == other.sum);
    if (cols % 32 == 0) CHECK(std::memcmp(mine.q.get(), other.q.get(), 5 * static_cast<size_t>(cols)) == 0);
  }
}

TEST("calls follow each other on a queue, and lists may change once a call returns") {
  const Memory& memory = *device().memory;
  Queue* const queue = memory.open_queue(0);
  {
    Team team(1, nullptr, queue);
    const Matrix m(device(), DType::q4_k, 20, 256, 101);
    std::vector<float> rows(2 * 256), out(2 * 20);
    std::vector<uint16_t> brain(2 * 256);
    std::vector<int32_t> ids = {3, 19};
    device().embedding(m.packed, ids.data(), 2, 1, rows.data(), team);
    ids.assign(2, 1 << 30);
    Prepared x{};
    x.n = 2, x.cols = 256, x.f32 = rows.data(), x.ld = 256, x.bf16 = brain.data();
    device().prepare(x, team);
    device().matmul(m.packed, x, nullptr, false, out.data(), 20, team);
    CHECK(memory.wait(queue) == nullptr);
    double square = 0, size = 0;
    for (size_t k = 0; k < 256; k++) square += m.plain[3 * 256 + k] * bf16_to_float(brain[k]);
    for (size_t k = 0; k < 256; k++) size += std::fabs(m.plain[3 * 256 + k] * bf16_to_float(brain[k]));
    CHECK_NEAR(out[3], square, 3e-6 * size);
    CHECK(size > 0);
  }
  memory.close_queue(queue);
}

}  // namespace
