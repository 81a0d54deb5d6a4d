// Weights of every type, as GGUF rows and packed, and activations in all forms: for the tests of the products.
// Blocks are random bytes, so that every code occurs, -128 among them.
#pragma once

#include <memory>

#include "core/half.h"
#include "kernel_test.h"

namespace matmul_problem {

using namespace tokensieve;
using namespace tokensieve::kernels;
using kernel_test::alone;

constexpr DType kTypes[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1,
                            DType::q5_0, DType::q5_1, DType::q4_k, DType::q5_k, DType::q6_k};

struct Free {
  void operator()(uint8_t* p) const { std::free(p); }
};
using Bytes = std::unique_ptr<uint8_t[], Free>;
inline Bytes aligned(size_t bytes) {
  uint8_t* p = static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 64) / 64 * 64 + 64));
  std::memset(p, 0xa5, bytes);
  return Bytes(p);
}

inline void put_half(uint8_t* p, float x) {
  const uint16_t h = float_to_f16(x);
  std::memcpy(p, &h, 2);
}

// Where the f16 scale and minimum of a block lie; -1: none.
inline void scale_offsets(DType type, int* d, int* m) {
  const bool minimum = type == DType::q4_1 || type == DType::q5_1 || type == DType::q4_k || type == DType::q5_k;
  *d = type == DType::q6_k ? 208 : 0;
  *m = minimum ? 2 : -1;
}

// fill: every byte of the codes, or -1 for random ones
inline std::vector<uint8_t> random_rows(DType type, int rows, int cols, check::Random& random, int fill) {
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(cols);
  std::vector<uint8_t> data(row_bytes(type, count));
  if (type == DType::f32 || type == DType::f16 || type == DType::bf16) {
    reference_backend().quantize(type, random.normals(count).data(), count, data.data(), alone);
    return data;
  }
  for (uint8_t& byte : data) byte = static_cast<uint8_t>(fill < 0 ? random.below(256) : fill);
  const size_t bytes = static_cast<size_t>(traits(type).bytes);
  int d, m;
  scale_offsets(type, &d, &m);
  for (size_t at = 0; at < data.size(); at += bytes) {
    put_half(&data[at + static_cast<size_t>(d)], random.uniform(-0.01f, 0.02f));
    if (m >= 0) put_half(&data[at + static_cast<size_t>(m)], random.uniform(-0.05f, 0.05f));
  }
  return data;
}

// Activations in all forms, x itself misaligned and with a stride of its own.
struct Input {
  Input(const Backend& backend, int count, int columns, uint64_t seed) : n(count), cols(columns) {
    check::Random random(seed);
    ld = static_cast<size_t>(cols) + 3;
    x = random.normals(ld * static_cast<size_t>(n) + 1);
    for (float& value : x) value *= random.below(50) == 0 ? 20 : 1;
    if (cols % 32 == 0) {
      for (int k = 0; k < 32; k++) x[1 + static_cast<size_t>(k)] = 0;
    }
    prepare(backend, 1);
  }
  void prepare(const Backend& backend, int threads) {
    make_room();
    Team team(threads);
    backend.prepare(p, team);
  }
  void make_room() {
    const size_t rows = static_cast<size_t>(n), width = static_cast<size_t>(cols), blocks = width / 32;
    brain.assign(rows * ((width + 1) / 2 * 2), 0x7fc0);
    q = aligned(rows * width + 1);
    scale.assign(rows * blocks + 1, -1);
    sum.assign(rows * blocks * 2 + 1, -1);
    p = Prepared{};
    p.n = n, p.cols = cols, p.f32 = x.data() + 1, p.ld = ld, p.bf16 = brain.data();
    if (cols % 32 == 0) p.q = reinterpret_cast<int8_t*>(q.get()), p.scale = scale.data(), p.sum = sum.data();
  }
  Prepared first(int count) const {
    Prepared part = p;
    part.n = count;
    return part;
  }
  double value(Kind kind, int t, int k) const {  // what the kernel is to multiply with
    const size_t row = static_cast<size_t>(t), col = static_cast<size_t>(k), width = static_cast<size_t>(cols);
    if (kind == Kind::int8) return static_cast<double>(p.q[row * width + col]) * p.scale[row * (width / 32) + col / 32];
    if (kind == Kind::bf16) return bf16_to_float(p.bf16[row * ((width + 1) / 2 * 2) + col]);
    return p.f32[row * ld + col];
  }

  int n, cols;
  size_t ld;
  std::vector<float> x, scale;
  std::vector<uint16_t> brain;
  std::vector<int16_t> sum;
  Bytes q;
  Prepared p;
};

struct Matrix {
  Matrix(const Backend& b, DType type, int rows, int cols, uint64_t seed, const int32_t* map = nullptr, int fill = -1)
      : backend(b) {
    check::Random random(seed);
    source = random_rows(type, rows, cols, random, fill);
    plain.resize(static_cast<size_t>(rows) * static_cast<size_t>(cols));
    reference_backend().dequantize(type, source.data(), plain.size(), plain.data(), alone);
    data = aligned(b.packed_bytes(type, rows, cols));
    for (int row = 0; row < rows; row += 16) {
      b.pack(type, source.data(), rows, cols, map, row, row + 16 < rows ? row + 16 : rows, data.get());
    }
    packed = PackedMatrix{type, rows, cols, data.get()};
  }
  // out [n][rows + 5], the padding must survive
  std::vector<float> times(const Prepared& x, int threads, const float* bias = nullptr, bool accumulate = false) const {
    Team team(threads);
    const size_t ldo = static_cast<size_t>(packed.rows) + 5;
    std::vector<float> out(ldo * static_cast<size_t>(x.n), 7.5f);
    backend.matmul(packed, x, bias, accumulate, out.data(), ldo, team);
    for (size_t t = 0; t < static_cast<size_t>(x.n); t++) {
      for (size_t r = static_cast<size_t>(packed.rows); r < ldo; r++) CHECK_EQ(out[ldo * t + r], 7.5f);
    }
    return out;
  }

  const Backend& backend;
  std::vector<uint8_t> source;
  std::vector<float> plain;
  Bytes data;
  PackedMatrix packed;
};

inline bool same(const std::vector<float>& a, const std::vector<float>& b, size_t count) {
  return std::memcmp(a.data(), b.data(), count * sizeof(float)) == 0;
}

inline int columns(DType type, int wanted) {
  return (wanted + traits(type).block - 1) / traits(type).block * traits(type).block;
}

}  // namespace matmul_problem
