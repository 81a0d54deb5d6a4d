#include "engine/linear.h"

namespace tokensieve {

namespace {

using kernels::Kind;

bool reads(const kernels::Backend& backend, const Linear& linear, Kind kind) {
  for (const Linear::Part& part : linear.parts) {
    if (backend.activation_kind(part.w.type) == kind) return true;
  }
  return false;
}

// Which forms of x are made.
struct Forms {
  bool int8, bf16, rest;
};

// x in these forms, held by `prepared`.
kernels::Prepared prepare_for(const kernels::Backend& backend, Forms forms, const float* x, size_t ldx, int n, int cols,
                              Buffer& prepared, Team& team) {
  const size_t rows = static_cast<size_t>(n), width = static_cast<size_t>(cols), blocks = rows * (width / 32);
  auto align = [](size_t bytes) { return (bytes + 63) / 64 * 64; };
  const size_t q_bytes = forms.int8 ? align(rows * width) : 0, block_bytes = forms.int8 ? align(blocks * 4) : 0,
               bf16_bytes = forms.bf16 ? align(rows * (width + 1) * 2) : 0, rounded = q_bytes + 2 * block_bytes;
  prepared.need(rounded + bf16_bytes + (forms.rest ? rows * width * sizeof(float) : 0));
  uint8_t* at = prepared.data();
  kernels::Prepared p;
  p.n = n, p.cols = cols, p.f32 = x, p.ld = ldx;
  if (forms.int8) {
    p.q = reinterpret_cast<int8_t*>(at);
    p.scale = reinterpret_cast<float*>(at + q_bytes);
    p.sum = reinterpret_cast<int16_t*>(at + q_bytes + block_bytes);
  }
  if (forms.bf16) p.bf16 = reinterpret_cast<uint16_t*>(at + rounded);
  if (forms.rest) p.rest = reinterpret_cast<float*>(at + rounded + bf16_bytes);
  if (forms.int8 || forms.bf16) backend.prepare(p, team);
  return p;
}

// The parts of one kind, twice where x was rounded: what the first rounding left of it is rounded over it then.
void apply_fine(const kernels::Backend& backend, const Linear& linear, Kind kind, const float* x, size_t ldx, int n,
                int cols, bool accumulate, float* out, size_t ldo, Buffer& prepared, Team& team) {
  if (!reads(backend, linear, kind)) return;
  const bool rounds = kind != Kind::f32;
  const auto multiply = [&](const kernels::Prepared& p, bool first) {
    for (const Linear::Part& part : linear.parts) {
      if (backend.activation_kind(part.w.type) == kind)
        backend.matmul(part.w, p, first ? part.bias : nullptr, accumulate || !first, out + part.offset, ldo, team);
    }
  };
  const Forms forms{kind == Kind::int8, kind == Kind::bf16, rounds};
  kernels::Prepared p = prepare_for(backend, forms, x, ldx, n, cols, prepared, team);
  multiply(p, true);
  if (!rounds) return;
  p.f32 = p.rest, p.ld = static_cast<size_t>(cols), p.rest = nullptr;
  backend.prepare(p, team);
  multiply(p, false);
}

}  // namespace

void apply_linear(const kernels::Backend& backend, const Linear& linear, Arithmetic arithmetic, const float* x,
                  size_t ldx, int n, int cols, bool accumulate, float* out, size_t ldo, Buffer& prepared, Team& team) {
  if (arithmetic == Arithmetic::fine) {
    for (Kind kind : {Kind::int8, Kind::bf16, Kind::f32})
      apply_fine(backend, linear, kind, x, ldx, n, cols, accumulate, out, ldo, prepared, team);
    return;
  }
  const Forms forms{reads(backend, linear, Kind::int8), reads(backend, linear, Kind::bf16), false};
  const kernels::Prepared p = prepare_for(backend, forms, x, ldx, n, cols, prepared, team);
  for (const Linear::Part& part : linear.parts)
    backend.matmul(part.w, p, part.bias, accumulate, out + part.offset, ldo, team);
}

void apply_gated(const kernels::Backend& backend, const Linear& linear, kernels::Activation act, const float* x,
                 size_t ldx, int n, int cols, float* out, size_t ldo, Buffer& prepared, Team& team) {
  const Forms forms{reads(backend, linear, Kind::int8), reads(backend, linear, Kind::bf16), false};
  const kernels::Prepared p = prepare_for(backend, forms, x, ldx, n, cols, prepared, team);
  const Linear::Part& part = linear.parts[0];
  backend.matmul_gate(part.w, p, part.bias, act, out, ldo, team);
}

void screen_linear(const kernels::Backend& backend, const kernels::PackedMatrix& w, const float* x, int n,
                   kernels::Screened* out, Buffer& prepared, Buffer& scratch, Team& team) {
  const size_t cols = static_cast<size_t>(w.cols);
  const Kind kind = backend.activation_kind(w.type);
  const Forms forms{kind == Kind::int8, kind == Kind::bf16, false};
  const kernels::Prepared p = prepare_for(backend, forms, x, cols, n, w.cols, prepared, team);
  scratch.need(static_cast<size_t>(n) * (cols + 128));
  backend.screen(w, p, out, nullptr, scratch.data(), team);
}

}  // namespace tokensieve
