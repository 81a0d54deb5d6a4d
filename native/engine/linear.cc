#include "engine/linear.h"

namespace tokensieve {

namespace {

// x in all the forms that the matrices of `linear` read, held by `prepared`.
kernels::Prepared prepare_for(const kernels::Backend& backend, const Linear& linear, const float* x, size_t ldx, int n,
                              int cols, Buffer& prepared, Team& team) {
  bool int8 = false, bf16 = false;
  for (const Linear::Part& p : linear.parts) {
    const kernels::Kind kind = backend.activation_kind(p.w.type);
    int8 = int8 || kind == kernels::Kind::int8, bf16 = bf16 || kind == kernels::Kind::bf16;
  }
  const size_t rows = static_cast<size_t>(n), width = static_cast<size_t>(cols), blocks = rows * (width / 32);
  auto align = [](size_t bytes) { return (bytes + 63) / 64 * 64; };
  const size_t q_bytes = int8 ? align(rows * width) : 0, block_bytes = int8 ? align(blocks * 4) : 0,
               bf16_bytes = bf16 ? align(rows * (width + 1) * 2) : 0;
  prepared.need(q_bytes + 2 * block_bytes + bf16_bytes);
  uint8_t* at = prepared.data();
  kernels::Prepared p;
  p.n = n, p.cols = cols, p.f32 = x, p.ld = ldx;
  if (int8) {
    p.q = reinterpret_cast<int8_t*>(at);
    p.scale = reinterpret_cast<float*>(at + q_bytes);
    p.sum = reinterpret_cast<int16_t*>(at + q_bytes + block_bytes);
  }
  if (bf16) p.bf16 = reinterpret_cast<uint16_t*>(at + q_bytes + 2 * block_bytes);
  if (int8 || bf16) backend.prepare(p, team);
  return p;
}

}  // namespace

void apply_linear(const kernels::Backend& backend, const Linear& linear, const float* x, size_t ldx, int n, int cols,
                  bool accumulate, float* out, size_t ldo, Buffer& prepared, Team& team) {
  const kernels::Prepared p = prepare_for(backend, linear, x, ldx, n, cols, prepared, team);
  for (const Linear::Part& part : linear.parts)
    backend.matmul(part.w, p, part.bias, accumulate, out + part.offset, ldo, team);
}

void apply_gated(const kernels::Backend& backend, const Linear& linear, kernels::Activation act, const float* x,
                 size_t ldx, int n, int cols, float* out, size_t ldo, Buffer& prepared, Team& team) {
  const kernels::Prepared p = prepare_for(backend, linear, x, ldx, n, cols, prepared, team);
  const Linear::Part& part = linear.parts[0];
  backend.matmul_gate(part.w, p, part.bias, act, out, ldo, team);
}

}  // namespace tokensieve
