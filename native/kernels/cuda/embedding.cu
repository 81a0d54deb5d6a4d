// Rows of a packed matrix as numbers, bit for bit those of dequantize: products of an f16 scale, a scale of 6 or 8 bits
// and a code fit the 24 bits of f32, so that the one rounding is that of adding the minimum. A row is every 16th of a
// panel: 8 times its bytes are read, of a few rows a step.
#include "kernels/cuda/matmul_parts.h"

namespace tokensieve::kernels::cuda {

__device__ __forceinline__ uint32_t word_at(const uint8_t* p, int i) { return reinterpret_cast<const uint32_t*>(p)[i]; }

// Row g + 8 r, column k of a panel, as it is in place.
template <DType type>
__device__ __forceinline__ float number_at(const Panels& w, const uint8_t* panel, int g, int r, int k) {
  constexpr Layout l = layout_of(type);
  const int group = k / kGroup, s = k % kGroup / kStep, lane = 4 * g + k % 16 / 4, p = r + k % 4 / 2 * 2, odd = k % 2;
  if constexpr (type == DType::f32) {
    return reinterpret_cast<const float*>(panel)[static_cast<size_t>(w.cols) * static_cast<size_t>(g + 8 * r) + k];
  } else if constexpr (l.codes == 64) {
    const uint32_t half = word_at(panel, ((group * 4 + s) * 32 + lane) * 4 + p) >> 16 * odd & 0xffff;
    return type == DType::f16 ? half_to_float(static_cast<uint16_t>(half)) : bf16_to_float(static_cast<uint16_t>(half));
  } else {
    Raw<type> raw{};
    load_words<Raw<type>::kScale>(raw.scale, panel + w.scale + (group * 8 + g) * l.scale);
    load_words<Raw<type>::kSuper>(raw.super, panel + w.super + (group / 4 * 8 + g) * l.super);
    int code;
    if constexpr (l.codes == 32) {
      code = word_at(panel, ((group * 2 + s / 2) * 32 + lane) * 4 + s % 2 * 2 + p / 2) >> (8 * r + 16 * odd) & 255;
    } else {
      code = word_at(panel, (group * 32 + lane) * 4 + s) >> (4 * p + 16 * odd) & 15;
      const uint8_t* high = panel + w.high + (group * 32 + lane) * l.high;
      if constexpr (l.high == 4) code |= (word_at(high, 0) >> (4 * s + p + 16 * odd) & 1) << 4;
      if constexpr (l.high == 8) code |= (word_at(high, s / 2) >> (2 * (s % 2 * 4 + p) + 16 * odd) & 3) << 4;
    }
    const Scales scales = scales_of<type>(raw, s);
    const float product = __fmul_rn(scales.d[r], static_cast<float>(code - l.zero));
    return has_minimum(type) ? product + scales.m[r] : product;
  }
}

template <DType type>
__global__ void __launch_bounds__(256) embed(Panels w, const int32_t* ids, int n, float scale, float* out) {
  const int k = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  if (k >= w.cols) return;
  for (int i = static_cast<int>(blockIdx.y); i < n; i += static_cast<int>(gridDim.y)) {
    const int row = ids[i] % kPanel;
    const uint8_t* panel = w.data + w.bytes * static_cast<size_t>(ids[i] / kPanel);
    const float number = number_at<type>(w, panel, row % 8, row / 8, k);
    out[static_cast<size_t>(w.cols) * static_cast<size_t>(i) + k] = __fmul_rn(number, scale);
  }
}

void embedding(const PackedMatrix& w, const int32_t* ids, int n, float scale, float* out, Team& team) noexcept {
  if (n == 0) return;
  const Stream stream = stream_of(team);
  const int32_t* const rows = upload(team, ids, static_cast<size_t>(n));
  const dim3 grid(static_cast<unsigned>(w.cols + 255) / 256, static_cast<unsigned>(n < 65535 ? n : 65535));
  Panels panels = panels_of(w.type, w.data, w.rows, w.cols);
  if (w.type == DType::f32) {
    panels.bytes = static_cast<size_t>(w.cols) * kPanel * sizeof(float);
    LAUNCH((embed<DType::f32>), grid, 256, 0, stream, panels, rows, n, scale, out);
    return;
  }
  with_type(w.type,
            [&](auto t) { LAUNCH((embed<decltype(t)::value>), grid, 256, 0, stream, panels, rows, n, scale, out); });
}

}  // namespace tokensieve::kernels::cuda
