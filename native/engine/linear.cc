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

// Those that products read which round once.
Forms forms_for(const kernels::Backend& backend, const Linear& linear) {
  return {reads(backend, linear, Kind::int8), reads(backend, linear, Kind::bf16), false};
}

// What the linear reads in f32.
Input normed(const kernels::Backend& backend, const Input& in, Team& team) {
  if (in.norm == nullptr) return in;
  const Norm& norm = *in.norm;
  const size_t ld = static_cast<size_t>(in.cols);
  backend.rms_norm(in.x, in.ld, in.n, 1, in.cols, norm.weight, norm.eps, nullptr, norm.room, ld, team);
  return {norm.room, ld, in.n, in.cols};
}

// Room for these forms in `prepared`.
kernels::Prepared place(Forms forms, const Input& in, Buffer& prepared) {
  const size_t rows = static_cast<size_t>(in.n), width = static_cast<size_t>(in.cols), blocks = rows * (width / 32);
  auto align = [](size_t bytes) { return (bytes + 63) / 64 * 64; };
  const size_t q_bytes = forms.int8 ? align(rows * width) : 0, block_bytes = forms.int8 ? align(blocks * 4) : 0,
               bf16_bytes = forms.bf16 ? align(rows * (width + 1) * 2) : 0, rounded = q_bytes + 2 * block_bytes;
  prepared.need(rounded + bf16_bytes + (forms.rest ? rows * width * sizeof(float) : 0));
  uint8_t* at = prepared.data();
  kernels::Prepared p;
  p.n = in.n, p.cols = in.cols, p.f32 = in.x, p.ld = in.ld;
  if (forms.int8) {
    p.q = reinterpret_cast<int8_t*>(at);
    p.scale = reinterpret_cast<float*>(at + q_bytes);
    p.sum = reinterpret_cast<int16_t*>(at + q_bytes + block_bytes);
  }
  if (forms.bf16) p.bf16 = reinterpret_cast<uint16_t*>(at + rounded);
  if (forms.rest) p.rest = reinterpret_cast<float*>(at + rounded + bf16_bytes);
  return p;
}

constexpr int kFewRows = 16;  // up to here gated rows are rounded faster on their own, many blocks of a row at once

// The input in the forms that the linear reads, rounded once.
kernels::Prepared prepare_for(const kernels::Backend& backend, const Linear& linear, const Input& in, Buffer& prepared,
                              Team& team) {
  if (in.rounded) return *in.rounded;
  const Forms forms = forms_for(backend, linear);
  if (in.norm && backend.norm_prepare && !reads(backend, linear, Kind::f32)) {
    const kernels::Prepared p = place(forms, in, prepared);
    backend.norm_prepare(p, in.norm->weight, in.norm->eps, team);
    return p;
  }
  const kernels::Prepared p = place(forms, normed(backend, in, team), prepared);
  if (forms.int8 || forms.bf16) backend.prepare(p, team);
  return p;
}

// The parts of one kind, twice where x was rounded: what the first rounding left of it is rounded over it then.
void apply_fine(const kernels::Backend& backend, const Linear& linear, Kind kind, const Input& in, bool accumulate,
                float* out, size_t ldo, Buffer& prepared, Team& team) {
  if (!reads(backend, linear, kind)) return;
  const bool rounds = kind != Kind::f32;
  const auto multiply = [&](const kernels::Prepared& p, bool first) {
    for (const Linear::Part& part : linear.parts) {
      if (backend.activation_kind(part.w.type) == kind)
        backend.matmul(part.w, p, first ? part.bias : nullptr, accumulate || !first, out + part.offset, ldo, team);
    }
  };
  kernels::Prepared p = place({kind == Kind::int8, kind == Kind::bf16, rounds}, in, prepared);
  if (rounds) backend.prepare(p, team);
  multiply(p, true);
  if (!rounds) return;
  p.f32 = p.rest, p.ld = static_cast<size_t>(in.cols), p.rest = nullptr;
  backend.prepare(p, team);
  multiply(p, false);
}

}  // namespace

void apply_linear(const kernels::Backend& backend, const Linear& linear, Arithmetic arithmetic, const Input& in,
                  bool accumulate, float* out, size_t ldo, Buffer& prepared, Team& team) {
  if (arithmetic == Arithmetic::fine) {
    const Input x = normed(backend, in, team);
    for (Kind kind : {Kind::int8, Kind::bf16, Kind::f32})
      apply_fine(backend, linear, kind, x, accumulate, out, ldo, prepared, team);
    return;
  }
  const kernels::Prepared p = prepare_for(backend, linear, in, prepared, team);
  for (const Linear::Part& part : linear.parts)
    backend.matmul(part.w, p, part.bias, accumulate, out + part.offset, ldo, team);
}

kernels::Prepared apply_gated(const kernels::Backend& backend, const Linear& linear, kernels::Activation act,
                              const Input& in, const Linear& next, Buffer& out, Buffer& prepared, Team& team) {
  const kernels::Prepared p = prepare_for(backend, linear, in, prepared, team);
  const Linear::Part& part = linear.parts[0];
  const int cols = linear.rows / 2;
  if (backend.gate_prepare && in.n > kFewRows && cols % 32 == 0 && !reads(backend, next, Kind::f32)) {
    const kernels::Prepared to = place(forms_for(backend, next), {nullptr, 0, in.n, cols}, out);
    backend.gate_prepare(part.w, p, part.bias, act, to, team);
    return to;
  }
  const size_t ld = static_cast<size_t>(cols);
  out.need(static_cast<size_t>(in.n) * ld * sizeof(float));
  backend.matmul_gate(part.w, p, part.bias, act, out.as<float>(), ld, team);
  return prepare_for(backend, next, {out.as<float>(), ld, in.n, cols}, prepared, team);
}

void screen_linear(const kernels::Backend& backend, const kernels::PackedMatrix& w, const float* x, int n,
                   kernels::Screened* out, Buffer& prepared, Buffer& scratch, Team& team) {
  const size_t cols = static_cast<size_t>(w.cols);
  const Kind kind = backend.activation_kind(w.type);
  const kernels::Prepared p = place({kind == Kind::int8, kind == Kind::bf16, false}, {x, cols, n, w.cols}, prepared);
  if (kind != Kind::f32) backend.prepare(p, team);
  scratch.need(static_cast<size_t>(n) * (cols + 128));
  backend.screen(w, p, out, nullptr, scratch.data(), team);
}

}  // namespace tokensieve
