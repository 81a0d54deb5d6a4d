// Kernels quantize and dequantize: the values of another implementation (test/fixtures/quantize), every f16 by its
// formula, and all backends alike bit for bit.
#include <fstream>

#include "core/half.h"
#include "kernel_test.h"

using namespace tokensieve;
using namespace tokensieve::kernels;
using kernel_test::alone;
using kernel_test::backends;

namespace {

struct Line {
  bool forward;  // quantize
  DType type;
  std::vector<float> values;
  std::vector<uint8_t> bytes;
};

std::vector<uint32_t> hex(const std::string& text, size_t digits) {
  std::vector<uint32_t> numbers;
  for (size_t i = 0; i < text.size(); i += digits) {
    numbers.push_back(static_cast<uint32_t>(std::strtoul(text.substr(i, digits).c_str(), nullptr, 16)));
  }
  return numbers;
}

// Read beside this source, so that the test runs from any folder.
std::vector<Line> fixture() {
  const std::string here = __FILE__;
  std::ifstream file(here.substr(0, here.find_last_of("/\\") + 1) + "../fixtures/quantize/blocks.txt");
  std::vector<Line> lines;
  std::string action, type, first, second;
  while (file >> action >> type >> first >> second) {
    Line line{action == "quantize", DType::f32, {}, {}};
    CHECK(dtype_from_name(type.c_str(), &line.type));
    for (const uint32_t bits : hex(line.forward ? first : second, 8)) line.values.push_back(bits_to_float(bits));
    for (const uint32_t byte : hex(line.forward ? second : first, 2)) line.bytes.push_back(static_cast<uint8_t>(byte));
    lines.push_back(line);
  }
  CHECK(lines.size() > 70);
  return lines;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST("dequantize gives the fixture's values bit for bit") {
  for (const Line& line : fixture()) {
    if (line.forward) continue;
    for (const Backend* backend : backends()) {
      std::vector<uint8_t> bytes(line.bytes.size() + 1);  // an odd address
      std::memcpy(bytes.data() + 1, line.bytes.data(), line.bytes.size());
      std::vector<float> got(line.values.size());
      backend->dequantize(line.type, bytes.data() + 1, got.size(), got.data(), alone);
      CHECK(same(got, line.values));
    }
  }
}

TEST("quantize gives the fixture's bytes") {
  for (const Line& line : fixture()) {
    if (!line.forward) continue;
    for (const Backend* backend : backends()) {
      std::vector<uint8_t> got(line.bytes.size(), 0xa5);
      backend->quantize(line.type, line.values.data(), line.values.size(), got.data(), alone);
      CHECK(got == line.bytes);
    }
  }
}

TEST("every f16 has the value of its formula and comes back") {
  for (const Backend* backend : backends()) {
    std::vector<uint16_t> halves(65536), back(65536);
    for (size_t i = 0; i < halves.size(); i++) halves[i] = static_cast<uint16_t>(i);
    std::vector<float> values(65536);
    backend->dequantize(DType::f16, halves.data(), values.size(), values.data(), alone);
    backend->quantize(DType::f16, values.data(), values.size(), back.data(), alone);
    for (int i = 0; i < 65536; i++) {
      const int exponent = i >> 10 & 31, mantissa = i & 1023;
      const double sign = i >> 15 ? -1 : 1;
      if (exponent == 31) continue;  // infinity and NaN are not allowed
      const double size = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
      CHECK_EQ(values[static_cast<size_t>(i)], sign * size);
      CHECK_EQ(back[static_cast<size_t>(i)], i);
    }
  }
}

TEST("f16 and bf16 round to nearest, ties to even") {
  const float values[] = {1 + 0x1p-11f, 1 + 0x3p-11f, 0x1p-25f, 0x1.8p-24f, 65519.f, -1 - 0x1p-8f, 1 + 0x3p-8f, 3.0f};
  const float in_f16[] = {1, 1 + 0x1p-9f, 0, 0x1p-23f, 65504, -1 - 0x1p-8f, 1 + 0x3p-8f, 3};
  const float in_bf16[] = {1, 1, 0x1p-25f, 0x1.8p-24f, 65536, -1, 1 + 0x1p-6f, 3};
  for (const Backend* backend : backends()) {
    for (const DType type : {DType::f16, DType::bf16}) {
      uint16_t halves[8];
      float back[8];
      backend->quantize(type, values, 8, halves, alone);
      backend->dequantize(type, halves, 8, back, alone);
      for (int i = 0; i < 8; i++) CHECK_EQ(back[i], type == DType::f16 ? in_f16[i] : in_bf16[i]);
    }
  }
}

TEST("all backends give the reference's bits, at every length and address") {
  check::Random random(5);
  for (const Backend* backend : backends()) {
    for (const DType type :
         {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1}) {
      for (const int blocks : {1, 2, 15, 16, 17, 100}) {
        const size_t n = static_cast<size_t>(blocks * traits(type).block), bytes = row_bytes(type, n);
        std::vector<float> x = random.normals(n + 1);
        x[1] = -x[n];  // two of the same size
        for (float& value : x) value *= random.below(40) ? 1e-2f : 9;
        std::vector<uint8_t> mine(bytes + 2, 0x5a), other(bytes);
        backend->quantize(type, x.data() + 1, n, mine.data() + 1, alone);
        reference_backend().quantize(type, x.data() + 1, n, other.data(), alone);
        CHECK(std::memcmp(mine.data() + 1, other.data(), bytes) == 0 && mine[0] == 0x5a && mine[bytes + 1] == 0x5a);
        std::vector<float> a(n + 1, 7), b(n + 1, 7);
        backend->dequantize(type, mine.data() + 1, n, a.data(), alone);
        reference_backend().dequantize(type, other.data(), n, b.data(), alone);
        CHECK(same(a, b));
      }
    }
  }
}

TEST("a quantized value is within half a step") {
  struct Case {
    DType type;
    double steps;  // of the range 2 max|x| (symmetric) or max - min
  };
  check::Random random(6);
  const std::vector<float> x = random.normals(3200);
  for (const Backend* backend : backends()) {
    for (const Case& c :
         {Case{DType::q8_0, 254}, {DType::q4_0, 16}, {DType::q5_0, 32}, {DType::q4_1, 15}, {DType::q5_1, 31}}) {
      std::vector<uint8_t> block(row_bytes(c.type, 32));
      std::vector<float> y(32);
      for (size_t at = 0; at < x.size(); at += 32) {
        backend->quantize(c.type, &x[at], 32, block.data(), alone);
        backend->dequantize(c.type, block.data(), 32, y.data(), alone);
        double low = x[at], high = x[at];
        for (size_t j = 0; j < 32; j++) low = std::fmin(low, x[at + j]), high = std::fmax(high, x[at + j]);
        const bool affine = c.type == DType::q4_1 || c.type == DType::q5_1;
        const double step = (affine ? high - low : 2 * std::fmax(-low, high)) / c.steps;
        // The end of the range opposite to the largest of q4_0 and q5_0 has no code; half floats round by 2^-11.
        const double reach = affine || c.type == DType::q8_0 ? 0.5 : 1.0;
        for (size_t j = 0; j < 32; j++) CHECK_NEAR(y[j], x[at + j], step * reach + std::fmax(-low, high) * 0x1p-10);
      }
    }
  }
}

}  // namespace
