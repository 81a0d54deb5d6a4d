// Row after row: its bound, and where that reaches the largest output so far, its output as matmul has it.
#include <cmath>

#include "core/half.h"
#include "kernels/reference/planes.h"

namespace tokensieve::kernels::reference {
namespace {

constexpr int kLeastRows = 256;

double half_at(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return static_cast<double>(f16_to_float(h));
}

// What the output of a row does not exceed; not finite where that is not known.
double bound(const PackedMatrix& w, int row, const float* x) {
  double sum = 0, size = 0;
  for (int b = 0; b < w.cols / 32; b++, x += 32) {
    const uint8_t* coarse = coarse_block(w, row, b);
    const double d = half_at(coarse);
    double dot = 0, norm = 0;
    for (int i = 0; i < 32; i++) {
      const double value = static_cast<double>(x[i]);
      dot += (8.0 * (coarse[2 + i] - 16) + 3.5) * value;
      norm += value * value;
    }
    sum += d * dot;
    size += std::fabs(d) * std::sqrt(norm);
  }
  return sum + w.reach[row] * kReachStep * size + 1e-36;
}

float output(const PackedMatrix& w, int row, const float* x, Team& team) {
  double sum = 0;
  for (int b = 0; b < w.cols / 32; b++) {
    float values[32];
    row_values(w, row, 32 * b, 32, values, team);
    for (int i = 0; i < 32; i++) sum += static_cast<double>(values[i]) * static_cast<double>(x[32 * b + i]);
  }
  return static_cast<float>(sum);
}

Screened search(const PackedMatrix& w, const float* x, float* upper, Team& team) {
  Screened found{-1, 0};
  float best = 0;
  const int most = kLeastRows + w.rows / 8;
  for (int row = 0; row < w.rows; row++) {
    const float above = std::nextafter(static_cast<float>(bound(w, row, x)), HUGE_VALF);
    if (upper) upper[row] = above;
    if (!std::isfinite(above) || (found.looked > most && !upper)) return {-1, found.looked};
    if (found.row >= 0 && above < best) continue;
    const float value = output(w, row, x, team);
    found.looked++;
    if (found.row < 0 || value > best) best = value, found.row = row;
  }
  return found;
}

}  // namespace

PlaneBytes plane_bytes(DType type, int rows, int cols) noexcept {
  if (type != DType::q8_0) return {0, 0, 0};
  const size_t n = static_cast<size_t>(rows), blocks = n * (static_cast<size_t>(cols) / 32);
  return {blocks * kCoarseBlock, blocks * kFineBlock, n};
}

void pack_planes(const void* src, const PackedMatrix& w, int row0, int row1, uint8_t* coarse, uint8_t* fine,
                 uint8_t* reach) noexcept {
  const size_t blocks = static_cast<size_t>(w.cols) / 32;
  for (size_t row = static_cast<size_t>(row0); row < static_cast<size_t>(row1); row++) {
    double most = 0;
    for (size_t at = row * blocks; at < (row + 1) * blocks; at++) {
      const uint8_t* from = static_cast<const uint8_t*>(src) + 34 * at;
      std::memcpy(coarse + kCoarseBlock * at, from, 2);
      double norm = 0;
      for (size_t i = 0; i < 32; i++) {
        const int code = from[2 + i] ^ 0x80;
        coarse[kCoarseBlock * at + 2 + i] = static_cast<uint8_t>(code >> 3);
        fine[kFineBlock * at + i] = static_cast<uint8_t>(code & 7);
        norm += ((code & 7) - 3.5) * ((code & 7) - 3.5);
      }
      most = std::fmax(most, std::sqrt(norm));
    }
    reach[row] = static_cast<uint8_t>(std::ceil((most + static_cast<double>(blocks + 8) / 4096) / kReachStep));
  }
}

void screen(const PackedMatrix& w, const Prepared& x, Screened* out, float* upper, void*, Team& team) noexcept {
  team.each(x.n, [&](int t, int) {
    Team alone(1);
    float* const own = upper ? upper + static_cast<size_t>(w.rows) * static_cast<size_t>(t) : nullptr;
    out[t] = search(w, x.f32 + x.ld * static_cast<size_t>(t), own, alone);
  });
}

}  // namespace tokensieve::kernels::reference
