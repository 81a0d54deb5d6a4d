// kernels.attention: typed arrays are laid into f32 pages, so that it is the engine's own kernel that runs.
#include <algorithm>
#include <limits>
#include <vector>

#include "addon/arguments.h"
#include "addon/kernels.h"
#include "addon/worker.h"
#include "core/buffer.h"
#include "core/pool.h"
#include "kernels/backend.h"

namespace tokensieve::addon {

namespace {

struct Pages {
  std::vector<Buffer> pages;
  std::vector<kernels::Piece> pieces;

  // x: row t of head h at x + (t * heads + h) * size
  void fill(const kernels::Backend& b, kernels::Side side, const float* x, int rows, int heads, int h, int size) {
    for (int t = 0; t < rows; t += kernels::kPageRows) {
      const int n = std::min(kernels::kPageRows, rows - t);
      pages.emplace_back(b.page_bytes(side, DType::f32, size), true);
      const size_t row = static_cast<size_t>(t) * static_cast<size_t>(heads) + static_cast<size_t>(h);
      const kernels::StoreJob job{side,
                                  DType::f32,
                                  x + row * static_cast<size_t>(size),
                                  static_cast<size_t>(heads * size),
                                  n,
                                  pages.back().data(),
                                  0};
      Team alone(1);
      b.store_rows(size, &job, 1, alone);
      pieces.push_back({pages.back().data(), 0, static_cast<int16_t>(n), DType::f32});
    }
  }
};

kernels::AttentionShape need_shape(const Napi::Object& o) {
  kernels::AttentionShape shape;
  shape.heads = need_int(o.Get("heads"), "heads", 1, 1024);
  shape.kv_heads = need_int(o.Get("kvHeads"), "kvHeads", 1, shape.heads);
  shape.head_size = need_int(o.Get("headSize"), "headSize", 16, 256);
  shape.scale = static_cast<float>(need_number(o.Get("scale"), "scale"));
  if (shape.heads % shape.kv_heads != 0 || shape.head_size % 16 != 0)
    wrong(o.Env(), "heads", "a multiple of kvHeads, and a headSize that is a multiple of 16");
  return shape;
}

// keep: Uint8Array [rows] or null -> what is added to the scores of the rows; empty for null.
std::vector<float> bias_of(const Napi::Value& keep, int rows) {
  std::vector<float> bias;
  if (!keep.IsTypedArray()) return bias;
  for (uint8_t kept : copy_of<uint8_t>(keep, "keep"))
    bias.push_back(kept ? 0.f : -std::numeric_limits<float>::infinity());
  if (bias.size() != static_cast<size_t>(rows)) wrong(keep.Env(), "keep", "one number a row");
  return bias;
}

}  // namespace

// { q [n][heads][headSize], k, v [rows][kvHeads][headSize], first, end: Int32Array [n], keep: Uint8Array [rows] or null, scores }
Napi::Value attention(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const kernels::Backend* b = &need_backend(info[0]);
  const Napi::Object o = need_object(info[1], "options");
  const kernels::AttentionShape shape = need_shape(o);
  Napi::Float32Array q = need_array<float>(o.Get("q"), "q"), k = need_array<float>(o.Get("k"), "k"),
                     v = need_array<float>(o.Get("v"), "v");
  const std::vector<int32_t> first = copy_of<int32_t>(o.Get("first"), "first"),
                             end = copy_of<int32_t>(o.Get("end"), "end");
  const size_t wide = static_cast<size_t>(shape.heads * shape.head_size),
               kv_wide = static_cast<size_t>(shape.kv_heads * shape.head_size);
  const int n = static_cast<int>(first.size()), rows = static_cast<int>(k.ElementLength() / kv_wide);
  if (q.ElementLength() != first.size() * wide || end.size() != first.size() || k.ElementLength() % kv_wide != 0 ||
      v.ElementLength() != k.ElementLength())
    wrong(env, "q", "as many numbers as the shapes say");
  for (size_t i = 0; i < first.size(); i++) {
    if (first[i] < 0 || end[i] > rows || end[i] < 0) wrong(env, "end", "ranges of rows that are there");
  }
  const std::vector<float> bias = bias_of(o.Get("keep"), rows);
  Napi::Object result = Napi::Object::New(env);
  Napi::Float32Array out = Napi::Float32Array::New(env, q.ElementLength());
  result.Set("output", out);
  result.Set("scores", env.Null());
  if (n == 0) return result;
  guarded(env, [&] {
    std::vector<Pages> keys(static_cast<size_t>(shape.kv_heads)), values(keys.size());
    std::vector<kernels::View> views(keys.size());
    for (size_t h = 0; h < views.size(); h++) {
      keys[h].fill(*b, kernels::Side::keys, k.Data(), rows, shape.kv_heads, static_cast<int>(h), shape.head_size);
      values[h].fill(*b, kernels::Side::values, v.Data(), rows, shape.kv_heads, static_cast<int>(h), shape.head_size);
      kernels::View& view = views[h];
      view.keys = keys[h].pieces.data(), view.values = values[h].pieces.data();
      view.key_pieces = view.value_pieces = static_cast<int>(keys[h].pieces.size());
      view.rows = rows, view.bias = bias.empty() ? nullptr : bias.data();
      view.first = first.data(), view.end = end.data();
    }
    kernels::AttentionJob job;
    job.q = q.Data(), job.ldq = wide, job.n = n, job.views = views.data(), job.out = out.Data(), job.ldo = wide;
    Team team(physical_cores());
    Buffer scratch(std::max(b->attention_scratch(shape, &job, 1, team.size()),
                            b->attention_probe_scratch(shape, job, team.size())) +
                   64);
    b->attention(shape, &job, 1, scratch.data(), team);
    if (!is_true(o.Get("scores"))) return;
    std::vector<float> scores(static_cast<size_t>(shape.heads) * static_cast<size_t>(rows));
    b->attention_probe(shape, job, false, scores.data(), static_cast<size_t>(rows), scratch.data(), team);
    result.Set("scores", copy_array(env, scores));
  });
  return result;
}

}  // namespace tokensieve::addon
