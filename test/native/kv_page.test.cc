#include <algorithm>

#include "cache_problem.h"

using namespace kernel_test;

namespace {

const DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::kivi4, DType::kivi2};

bool quantized(DType type) { return type != DType::f32 && type != DType::f16 && type != DType::bf16; }

std::vector<int> head_sizes(DType type) {
  if (quantized(type)) return {32, 64, 96, 128, 256};
  return {16, 32, 64, 80, 128, 256};
}

void store(const Backend& backend, Side side, DType type, const Matrix& x, const Bytes& page) {
  if (side == Side::keys && is_kivi(type)) {
    backend.store_kivi_keys(type, x.columns(), x.data(), x.ld(), page.data(), alone);
  } else {
    const StoreJob job{side, type, x.data(), x.ld(), x.rows(), page.data(), 0};
    backend.store_rows(x.columns(), &job, 1, alone);
  }
}

Matrix load(const Backend& backend, Side side, DType type, int head_size, const Bytes& page, int first, int count) {
  Matrix y(count, head_size);
  const Piece piece{page.data(), static_cast<int16_t>(first), static_cast<int16_t>(count), type};
  backend.load_rows(side, head_size, piece, y.data(), y.ld(), alone);
  return y;
}

// Half a step of the quantizer (its scale rounded to f16), or of the float type's last bit.
double allowed(DType type, Side side, const Matrix& x, int row, int c) {
  float low = INFINITY, high = -INFINITY;
  for (int i = 0; i < 32 && quantized(type); ++i) {
    const bool across = side == Side::keys && is_kivi(type);
    const float v = across ? x.at(i, c) : x.at(row, c / 32 * 32 + i);
    low = std::min(low, v);
    high = std::max(high, v);
  }
  const double peak = std::max(std::fabs(low), std::fabs(high)),
               span = static_cast<double>(high) - static_cast<double>(low);
  switch (type) {
    case DType::f32: return 0;
    case DType::f16: return std::fabs(x.at(row, c)) * 0x1p-11 + 0x1p-25;
    case DType::bf16: return std::fabs(x.at(row, c)) * 0x1p-8;
    case DType::q8_0: return peak / 127 * (0.5 + 127 * 0x1p-11) + 1e-6;
    case DType::q4_0: return peak / 8 * (1 + 8 * 0x1p-11) + 1e-6;  // + 8 does not exist: a whole step at the other end
    case DType::kivi4: return span / 15 * (0.5 + 15 * 0x1p-11) + peak * 0x1p-10 + 1e-6;
    default: return span / 3 * (0.5 + 3 * 0x1p-11) + peak * 0x1p-10 + 1e-6;
  }
}

}  // namespace

TEST("sizes of pages") {
  for (const Backend* backend : backends()) {
    CHECK_EQ(backend->page_bytes(Side::keys, DType::f32, 64), 8192);
    CHECK_EQ(backend->page_bytes(Side::values, DType::f16, 64), 4096);
    CHECK_EQ(backend->page_bytes(Side::keys, DType::q8_0, 64), 2176);
    CHECK_EQ(backend->page_bytes(Side::values, DType::q4_0, 64), 1152);
    CHECK_EQ(backend->page_bytes(Side::keys, DType::kivi4, 64), 1280);
    CHECK_EQ(backend->page_bytes(Side::values, DType::kivi2, 64), 768);  // .375 bytes an element
    for (const DType type : kTypes) {
      for (const int d : head_sizes(type)) {
        for (const Side side : {Side::keys, Side::values}) {
          CHECK_EQ(backend->page_bytes(side, type, d) % 64, 0);
          CHECK_EQ(backend->page_bytes(side, type, d), reference_backend().page_bytes(side, type, d));
        }
      }
    }
  }
}

TEST("the contract's layout, by hand") {
  const int d = 32;
  Matrix x(32, d);
  for (int r = 0; r < 32; ++r) {
    for (int c = 0; c < d; ++c) x.at(r, c) = static_cast<float>(100 * r + c);
  }
  for (const Backend* backend : backends()) {
    const Bytes keys(backend->page_bytes(Side::keys, DType::f32, d)), values(keys.size());
    store(*backend, Side::keys, DType::f32, x, keys);
    store(*backend, Side::values, DType::f32, x, values);
    const float* k = reinterpret_cast<const float*>(keys.data());
    const float* v = reinterpret_cast<const float*>(values.data());
    CHECK_EQ(k[(0 * d + 5) * 16 + 3], 305);  // row 3
    CHECK_EQ(k[(1 * d + 31) * 16 + 2], 1831);  // row 18: block 1, lane 2
    CHECK_EQ(v[7 * d + 9], 709);

    // q8_0: 127 is the largest of each row's group, so that codes are the numbers themselves. q4_0: -8 is.
    for (int r = 0; r < 32; ++r) {
      for (int c = 0; c < d; ++c) x.at(r, c) = c == 0 ? -8 : static_cast<float>((r + c) % 15 - 7);
    }
    const Bytes nibbles(backend->page_bytes(Side::keys, DType::q4_0, d));
    store(*backend, Side::keys, DType::q4_0, x, nibbles);
    CHECK_EQ(nibbles.data()[(0 * 16 + 2) * 4 + 3], ((2 + 3) % 15 + 1) | ((18 + 3) % 15 + 1) << 4);  // rows 2 and 18
    CHECK_EQ(nibbles.data()[(7 * 16 + 4) * 4 + 1], ((4 + 29) % 15 + 1) | ((20 + 29) % 15 + 1) << 4);
    uint16_t scale;
    std::memcpy(&scale, nibbles.data() + 512, 2);
    CHECK_EQ(scale, 0x3c00);  // 1
    for (int r = 0; r < 32; ++r) x.at(r, 31) = 127;
    const Bytes bytes(backend->page_bytes(Side::values, DType::q8_0, d));
    store(*backend, Side::values, DType::q8_0, x, bytes);
    CHECK_EQ(bytes.data()[(1 * 32 + 4) * 4 + 2], 10 % 15 - 7 + 128);  // row 6, channel 4
    store(*backend, Side::keys, DType::q8_0, x, bytes);
    CHECK_EQ(bytes.data()[((1 * 8 + 2) * 16 + 3) * 4 + 1], (19 + 9) % 15 - 7 + 128);  // row 19, channel 9
    for (int r = 0; r < 32; ++r) {
      for (int c = 0; c < d; ++c) x.at(r, c) = static_cast<float>(100 * r + c);
    }
  }
}

TEST("kivi's example: (-1, .2, .9, 2) in two bits is 0 1 2 3, restored -1 0 1 2") {
  const float group[4] = {-1.0f, 0.2f, 0.9f, 2.0f};
  Matrix x(32, 32);
  for (int r = 0; r < 32; ++r) {
    for (int c = 0; c < 32; ++c) x.at(r, c) = group[(r + c) % 4];
  }
  for (const Backend* backend : backends()) {
    for (const Side side : {Side::keys, Side::values}) {
      const Bytes page(backend->page_bytes(side, DType::kivi2, 32));
      store(*backend, side, DType::kivi2, x, page);
      const Matrix y = load(*backend, side, DType::kivi2, 32, page, 0, 32);
      for (int r = 0; r < 32; ++r) {
        for (int c = 0; c < 32; ++c) CHECK_EQ(y.at(r, c), (r + c) % 4 - 1);
      }
      uint16_t tables[2];
      std::memcpy(tables, page.data() + 256, 2);
      std::memcpy(tables + 1, page.data() + 256 + 64, 2);
      CHECK_EQ(tables[0], 0x3c00);  // scale 1
      CHECK_EQ(tables[1], 0xbc00);  // minimum -1
    }
  }
}

TEST("equal numbers and zeros") {
  for (const Backend* backend : backends()) {
    for (const DType type : kTypes) {
      for (const float value : {0.0f, 1.5f, -2.0f, 1e-42f}) {
        Matrix x(32, 64);
        for (int r = 0; r < 32; ++r) std::fill(&x.at(r, 0), &x.at(r, 0) + 64, value);
        for (const Side side : {Side::keys, Side::values}) {
          const Bytes page(backend->page_bytes(side, type, 64));
          store(*backend, side, type, x, page);
          const Matrix y = load(*backend, side, type, 64, page, 0, 32);
          for (int c = 0; c < 64; ++c) CHECK_NEAR(y.at(c % 32, c), value, 5e-3 * std::fabs(value) + 1e-30);
        }
      }
    }
  }
}

TEST("round trips, and the same bytes as the reference") {
  check::Random random(7);
  for (const DType type : kTypes) {
    for (const int d : head_sizes(type)) {
      const Matrix x = Matrix::normal(32, d, random, 3);
      for (const Side side : {Side::keys, Side::values}) {
        const Bytes truth(reference_backend().page_bytes(side, type, d), 0);
        store(reference_backend(), side, type, x, truth);
        const Matrix want = load(reference_backend(), side, type, d, truth, 0, 32);
        for (const Backend* backend : backends()) {
          const Bytes page(truth.size(), 0);
          store(*backend, side, type, x, page);
          CHECK(std::memcmp(page.data(), truth.data(), page.size()) == 0);
          CHECK(load(*backend, side, type, d, page, 0, 32).same_bits(want));
          double worst = 0;
          for (int r = 0; r < 32; ++r) {
            for (int c = 0; c < d; ++c) {
              const double error = std::fabs(static_cast<double>(want.at(r, c)) - static_cast<double>(x.at(r, c)));
              worst = std::max(worst, error - allowed(type, side, x, r, c));
            }
          }
          check::expect(worst <= 0, __FILE__, __LINE__,
                        std::string(type_name(type)) + " is off by " + check::number(worst));
        }
      }
    }
  }
}

TEST("rows are stored, loaded and moved one by one without touching others") {
  check::Random random(9);
  for (const DType type : kTypes) {
    for (const int d : head_sizes(type)) {
      for (const Side side : {Side::keys, Side::values}) {
        if (side == Side::keys && is_kivi(type)) continue;
        const Matrix x = Matrix::normal(32, d, random), other = Matrix::normal(32, d, random);
        for (const Backend* backend : backends()) {
          const Bytes whole(backend->page_bytes(side, type, d), 0), pieces(whole.size(), 0), moved(whole.size(), 0);
          store(*backend, side, type, x, whole);
          for (const int first : {20, 0, 1, 31, 17}) {  // overlapping runs, any order
            const int n = std::min(first == 0 ? 32 : 5, 32 - first);
            const StoreJob job{side, type, &x.at(first, 0), x.ld(), n, pieces.data(), first};
            backend->store_rows(d, &job, 1, alone);
          }
          CHECK(std::memcmp(whole.data(), pieces.data(), whole.size()) == 0);
          const Matrix all = load(*backend, side, type, d, whole, 0, 32);
          const Matrix some = load(*backend, side, type, d, whole, 11, 9);
          CHECK(std::memcmp(&some.at(0, 0), &all.at(11, 0), 4 * static_cast<size_t>(d)) == 0);
          CHECK(std::memcmp(&some.at(8, 0), &all.at(19, 0), 4 * static_cast<size_t>(d)) == 0);
          CHECK(some.guards_hold());
          store(*backend, side, type, other, moved);
          const Matrix before = load(*backend, side, type, d, moved, 0, 32);
          backend->copy_row(side, type, d, whole.data(), 30, moved.data(), 3, alone);
          backend->copy_row(side, type, d, moved.data(), 5, moved.data(), 16, alone);
          const Matrix after = load(*backend, side, type, d, moved, 0, 32);
          for (int r = 0; r < 32; ++r) {
            const float* want = r == 3 ? &all.at(30, 0) : r == 16 ? &before.at(5, 0) : &before.at(r, 0);
            CHECK(std::memcmp(&after.at(r, 0), want, 4 * static_cast<size_t>(d)) == 0);
          }
        }
      }
    }
  }
}
