// Products and matrix loads of a warp, by plain loops over the fragments that its lanes hold (PTX ISA, "Matrix fragments
// for mma.m16n8k16" and ".m16n8k32", "ldmatrix").
#include <cstring>
#include <stdexcept>

#include "device.h"

namespace tokensieve::kernels::cuda {

namespace {

struct Fragments {
  uint32_t a[4], b[2];
};

template <class T>
T part_of(const uint32_t* registers, int at) {  // element `at` of consecutive registers
  T value;
  std::memcpy(&value, reinterpret_cast<const uint8_t*>(registers) + static_cast<size_t>(at) * sizeof(T), sizeof(T));
  return value;
}

Fragments of_lane(const uint8_t* all, int lane) {
  Fragments f;
  std::memcpy(&f, all + lane * simt::kSlot, sizeof f);
  return f;
}

// per: elements of 32 bits. A row r, column k lies in lane r % 8 * 4 + k % (4 per) / per, register r / 8 + k / (4 per) * 2.
template <class T, class Sum, class Value>
void multiply(const char* name, Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Value value) {
  constexpr int per = 4 / static_cast<int>(sizeof(T)), half = 4 * per;
  Fragments own;
  std::memcpy(own.a, a, sizeof own.a), std::memcpy(own.b, b, sizeof own.b);
  const uint8_t* const all = simt::meet(name, 0xffffffffu, &own, sizeof own);
  const int lane = simt::lane();
  for (int i = 0; i < 4; i++) {
    const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    Sum sum = d[i];
    for (int k = 0; k < 2 * half; k++) {
      const Fragments x = of_lane(all, row % 8 * 4 + k % half / per), y = of_lane(all, column * 4 + k % half / per);
      sum += value(part_of<T>(&x.a[row / 8 + k / half * 2], k % per)) * value(part_of<T>(&y.b[k / half], k % per));
    }
    if (lane == 5 && simt::wrong_products()) sum += sum / 100;
    d[i] = sum;
  }
}

}  // namespace

void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  multiply<uint16_t>("mma_bf16", d, a, b, [](uint16_t x) { return tokensieve::bf16_to_float(x); });
}

void mma_int8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  multiply<int8_t>("mma_int8", d, a, b, [](int8_t x) { return static_cast<int>(x); });
}

void load_matrices(uint32_t* r, int count, bool transposed, const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0 && simt::lane() < 8 * count)
    throw std::runtime_error("ldmatrix expects addresses at multiples of 16");
  const uint8_t* const all = simt::meet("ldmatrix", 0xffffffffu, &row, sizeof row);
  const int lane = simt::lane();
  for (int m = 0; m < count; m++) {
    uint16_t pair[2];
    for (int i = 0; i < 2; i++) {
      const int line = lane / 4, column = lane % 4 * 2 + i, at = transposed ? column : line;
      const uint16_t* from;
      std::memcpy(&from, all + (8 * m + at) * simt::kSlot, sizeof from);
      pair[i] = from[transposed ? line : column];
    }
    std::memcpy(&r[m], pair, 4);
  }
}

}  // namespace tokensieve::kernels::cuda
