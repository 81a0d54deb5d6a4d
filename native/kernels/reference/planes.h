// Rows of a matrix of this backend, which are GGUF rows or, in two planes (kernels/screen.h):
//   coarse   blocks of 34 bytes: f16 d, then a byte a weight: code >> 3, code = q + 128
//   fine     a byte a weight: code & 7
//   reach    a byte a row, in twelfths
#pragma once

#include <cstring>

#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

constexpr size_t kCoarseBlock = 34, kFineBlock = 32;
constexpr double kReachStep = 1.0 / 12;

inline const uint8_t* coarse_block(const PackedMatrix& w, int row, int block) {
  const size_t blocks = static_cast<size_t>(w.cols) / 32;
  return w.data + kCoarseBlock * (blocks * static_cast<size_t>(row) + static_cast<size_t>(block));
}
inline const uint8_t* fine_block(const PackedMatrix& w, int row, int block) {
  const size_t blocks = static_cast<size_t>(w.cols) / 32;
  return w.fine + kFineBlock * (blocks * static_cast<size_t>(row) + static_cast<size_t>(block));
}

// Weights [col, col + count) of a row; both are multiples of the type's block.
inline void row_values(const PackedMatrix& w, int row, int col, int count, float* out, Team& team) {
  const size_t cols = static_cast<size_t>(w.cols);
  if (w.fine == nullptr) {
    const uint8_t* at = w.data + row_bytes(w.type, cols) * static_cast<size_t>(row);
    return dequantize(w.type, at + row_bytes(w.type, static_cast<size_t>(col)), static_cast<size_t>(count), out, team);
  }
  for (int k = 0; k < count; k += 32) {
    const uint8_t *coarse = coarse_block(w, row, (col + k) / 32), *fine = fine_block(w, row, (col + k) / 32);
    uint8_t block[34];
    std::memcpy(block, coarse, 2);
    for (int i = 0; i < 32; i++) block[2 + i] = static_cast<uint8_t>((coarse[2 + i] << 3 | fine[i]) ^ 0x80);
    dequantize(w.type, block, 32, out + k, team);
  }
}

}  // namespace tokensieve::kernels::reference
