#include "addon/kernels.h"

#include <cmath>
#include <limits>
#include <vector>

#include "addon/arguments.h"
#include "addon/measure.h"
#include "addon/worker.h"
#include "core/buffer.h"
#include "core/pool.h"
#include "kernels/backend.h"

namespace tokensieve::addon {

using kernels::Backend;

const Backend& need_backend(const Napi::Value& v) {
  const std::string name = need_string(v, "backend");
  const Backend* found = name == "cpu" ? kernels::runnable_backends().items[0] : kernels::backend_by_name(name.c_str());
  if (found == nullptr)
    throw to_js(v.Env(), Code::device,
                "[kernels] expected a backend that this machine can run, got \"" + name.substr(0, 40) + "\"");
  return *found;
}

namespace {

// A size is what was given divided by the rest, without a remainder.
size_t need_multiple(Napi::Env env, size_t n, size_t of, const char* name) {
  if (of == 0 || n % of != 0) wrong(env, name, ("a multiple of " + std::to_string(of) + " numbers").c_str());
  return n / of;
}

Napi::Value backends(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  const kernels::BackendList& list = kernels::runnable_backends();
  for (int i = 0; i < list.count; i++) {
    Napi::Object o = Napi::Object::New(info.Env());
    const bool reference = std::string(list.items[i]->name) == "reference";
    o.Set("name", reference ? "reference" : "cpu");
    o.Set("isa", list.items[i]->name);
    o.Set("threads", physical_cores());
    out.Set(out.Length(), o);
  }
  return out;
}

Napi::Value quantize(const Napi::CallbackInfo& info) {
  const Backend& b = need_backend(info[0]);
  Napi::Float32Array x = need_array<float>(info[1], "x");
  const DType type = need_dtype(info[2], "dtype");
  const DTypeTraits& t = traits(type);
  const size_t blocks = need_multiple(info.Env(), x.ElementLength(), static_cast<size_t>(t.block), "x");
  if (t.bytes == 0 || type == DType::q4_k || type == DType::q5_k || type == DType::q6_k)
    wrong(info.Env(), "dtype", "a type that can be written");
  Napi::Uint8Array out = Napi::Uint8Array::New(info.Env(), blocks * static_cast<size_t>(t.bytes));
  Team alone(1);
  b.quantize(type, x.Data(), x.ElementLength(), out.Data(), alone);
  return out;
}

Napi::Value dequantize(const Napi::CallbackInfo& info) {
  const Backend& b = need_backend(info[0]);
  Napi::Uint8Array bytes = need_array<uint8_t>(info[1], "bytes");
  const DType type = need_dtype(info[2], "dtype");
  const DTypeTraits& t = traits(type);
  const size_t n = static_cast<size_t>(need_int(info[3], "n", 0, 1 << 30));
  if (t.bytes == 0 || need_multiple(info.Env(), n, static_cast<size_t>(t.block), "n") * static_cast<size_t>(t.bytes) !=
                          bytes.ElementLength())
    wrong(info.Env(), "bytes", "the blocks of n numbers");
  Napi::Float32Array out = Napi::Float32Array::New(info.Env(), n);
  Team alone(1);
  b.dequantize(type, bytes.Data(), n, out.Data(), alone);
  return out;
}

Napi::Value matmul(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Backend& b = need_backend(info[0]);
  if (!info[1].IsTypedArray()) wrong(env, "weights", "a typed array");
  Napi::TypedArray w = info[1].As<Napi::TypedArray>();
  const DType type = need_dtype(info[2], "dtype");
  const int rows = need_int(info[3], "rows", 1, 1 << 24), cols = need_int(info[4], "cols", 1, 1 << 24);
  Napi::Float32Array x = need_array<float>(info[5], "x");
  need_multiple(env, static_cast<size_t>(cols), static_cast<size_t>(traits(type).block), "cols");
  if (traits(type).bytes == 0 ||
      w.ByteLength() != row_bytes(type, static_cast<size_t>(cols)) * static_cast<size_t>(rows))
    wrong(env, "weights", "rows x cols numbers of that dtype");
  const size_t n = need_multiple(env, x.ElementLength(), static_cast<size_t>(cols), "x");
  Napi::Float32Array out = Napi::Float32Array::New(env, n * static_cast<size_t>(rows));
  guarded(env, [&] {
    Team team(physical_cores());
    Buffer packed(b.packed_bytes(type, rows, cols), true);
    b.pack(type, static_cast<const uint8_t*>(w.ArrayBuffer().Data()) + w.ByteOffset(), rows, cols, nullptr, 0, rows,
           packed.data());
    const size_t width = static_cast<size_t>(cols), blocks = n * (width / 32);
    Buffer q(n * width + 64), scale(blocks * 4 + 64), sum(2 * blocks * sizeof(int16_t) + 64),
        bf16(n * (width + 1) * 2 + 64);
    kernels::Prepared p;
    p.n = static_cast<int>(n), p.cols = cols, p.f32 = x.Data(), p.ld = width;
    const kernels::Kind kind = b.activation_kind(type);
    if (kind == kernels::Kind::int8) p.q = q.as<int8_t>(), p.scale = scale.as<float>(), p.sum = sum.as<int16_t>();
    if (kind == kernels::Kind::bf16) p.bf16 = bf16.as<uint16_t>();
    if (n == 0) return;
    b.prepare(p, team);
    b.matmul({type, rows, cols, packed.data()}, p, nullptr, false, out.Data(), static_cast<size_t>(rows), team);
  });
  return out;
}

Napi::Value rms_norm(const Napi::CallbackInfo& info) {
  const Backend& b = need_backend(info[0]);
  Napi::Float32Array x = need_array<float>(info[1], "x");
  const int d = need_int(info[3], "d", 1, 1 << 30);
  const size_t n = need_multiple(info.Env(), x.ElementLength(), static_cast<size_t>(d), "x");
  const std::vector<float> weight = info[2].IsNull() ? std::vector<float>() : copy_of<float>(info[2], "weight");
  if (!weight.empty() && weight.size() != static_cast<size_t>(d))
    wrong(info.Env(), "weight", "as many numbers as a row has");
  Napi::Float32Array out = Napi::Float32Array::New(info.Env(), x.ElementLength());
  Team team(1);
  b.rms_norm(x.Data(), static_cast<size_t>(d), static_cast<int>(n), 1, d, weight.empty() ? nullptr : weight.data(),
             static_cast<float>(need_number(info[4], "eps")), nullptr, out.Data(), static_cast<size_t>(d), team);
  return out;
}

Napi::Value rope(const Napi::CallbackInfo& info) {
  const Backend& b = need_backend(info[0]);
  std::vector<float> x = copy_of<float>(info[1], "x");
  const int heads = need_int(info[2], "heads", 1, 1 << 16), size = need_int(info[3], "headSize", 2, 1 << 16),
            rotated = need_int(info[4], "rotated", 2, size);
  const std::vector<double> positions = copy_of<double>(info[5], "positions");
  const double base = need_number(info[6], "base");
  const size_t width = static_cast<size_t>(heads) * static_cast<size_t>(size), half = static_cast<size_t>(rotated / 2);
  if (rotated % 2 != 0 || positions.size() * width != x.size())
    wrong(info.Env(), "positions", "one position a row and an even number of rotated channels");
  std::vector<float> cos(positions.size() * half), sin(cos.size());
  for (size_t t = 0; t < positions.size(); t++) {
    for (size_t i = 0; i < half; i++) {
      const double angle = positions[t] / std::pow(base, 2.0 * static_cast<double>(i) / rotated);
      cos[t * half + i] = static_cast<float>(std::cos(angle)), sin[t * half + i] = static_cast<float>(std::sin(angle));
    }
  }
  Team team(1);
  b.rope(x.data(), width, static_cast<int>(positions.size()), heads, size, rotated, cos.data(), sin.data(), team);
  return copy_array(info.Env(), x);
}

Napi::Value top_k(const Napi::CallbackInfo& info) {
  const Backend& b = need_backend(info[0]);
  Napi::Float32Array x = need_array<float>(info[1], "x");
  const int n = static_cast<int>(x.ElementLength()), k = need_int(info[2], "k", 0, n);
  Napi::Int32Array out = Napi::Int32Array::New(info.Env(), static_cast<size_t>(k));
  std::vector<uint64_t> scratch(static_cast<size_t>(n) + 1);
  Team alone(1);
  b.top_k(x.Data(), n, k, is_true(info[3]) ? kernels::Order::value : kernels::Order::index, out.Data(), scratch.data(),
          alone);
  return out;
}

Napi::Value merge(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Backend& b = need_backend(info[0]);
  Napi::Float32Array x = need_array<float>(info[1], "x");
  const int d = need_int(info[2], "d", 1, 1 << 24);
  const std::vector<int32_t> into = copy_of<int32_t>(info[3], "into");
  std::vector<float> size = info[4].IsNull() ? std::vector<float>(into.size(), 1.f) : copy_of<float>(info[4], "sizes");
  if (into.size() * static_cast<size_t>(d) != x.ElementLength() || size.size() != into.size())
    wrong(env, "into", "one target and one size a row");
  int32_t groups = 0;
  for (int32_t g : into) groups = std::max(groups, g + 1);
  std::vector<uint8_t> seen(static_cast<size_t>(groups));
  for (int32_t g : into) {
    if (g >= 0) seen[static_cast<size_t>(g)] = 1;
  }
  for (uint8_t s : seen) {
    if (!s) wrong(env, "into", "groups from 0 without gaps");
  }
  Napi::Float32Array rows = Napi::Float32Array::New(env, static_cast<size_t>(groups) * static_cast<size_t>(d)),
                     sizes = Napi::Float32Array::New(env, static_cast<size_t>(groups));
  Team team(1);
  if (groups > 0)
    b.merge(x.Data(), static_cast<size_t>(d), d, into.data(), size.data(), static_cast<int>(into.size()), groups,
            rows.Data(), static_cast<size_t>(d), sizes.Data(), team);
  Napi::Object out = Napi::Object::New(env);
  out.Set("rows", rows);
  out.Set("sizes", sizes);
  return out;
}

}  // namespace

Napi::Value attention(const Napi::CallbackInfo& info);  // kernels_attention.cc

Napi::Object make_kernels(Napi::Env env) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("backends", Napi::Function::New(env, backends));
  o.Set("quantize", Napi::Function::New(env, quantize));
  o.Set("dequantize", Napi::Function::New(env, dequantize));
  o.Set("matmul", Napi::Function::New(env, matmul));
  o.Set("rmsNorm", Napi::Function::New(env, rms_norm));
  o.Set("rope", Napi::Function::New(env, rope));
  o.Set("topK", Napi::Function::New(env, top_k));
  o.Set("merge", Napi::Function::New(env, merge));
  o.Set("attention", Napi::Function::New(env, attention));
  o.Set("limits", Napi::Function::New(env, limits));
  return o;
}

}  // namespace tokensieve::addon
