// resample of lib/native-vision.ts.
#include <algorithm>
#include <utility>

#include "addon/arguments.h"
#include "addon/vision.h"
#include "addon/worker.h"
#include "engine/resample.h"

namespace tokensieve::addon {

namespace {

constexpr int kMostSide = 1 << 20, kMostOut = 1 << 16;

Filter need_filter(const Napi::Value& v) {
  const std::string name = need_string(v, "filter");
  if (name == "bilinear") return Filter::bilinear;
  if (name == "bicubic") return Filter::bicubic;
  if (name == "lanczos") return Filter::lanczos;
  wrong(v.Env(), "filter", "'bilinear', 'bicubic' or 'lanczos'");
}

Resize read_resize(const Napi::Value& v, int width, int height) {
  const Napi::Object o = need_object(v, "to");
  Resize to;
  to.width = need_int(o.Get("width"), "width", 1, kMostOut);
  to.height = need_int(o.Get("height"), "height", 1, kMostOut);
  to.filter = need_filter(o.Get("filter"));
  to.box[2] = static_cast<float>(width), to.box[3] = static_cast<float>(height);
  if (o.Get("box").IsUndefined()) return to;
  if (!o.Get("box").IsArray() || o.Get("box").As<Napi::Array>().Length() != 4)
    wrong(v.Env(), "box", "[left, top, right, bottom]");
  const Napi::Array box = o.Get("box").As<Napi::Array>();
  for (uint32_t i = 0; i < 4; i++) to.box[i] = static_cast<float>(need_number(box.Get(i), "box"));
  return to;
}

}  // namespace

Napi::Value resample_pixels(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Uint8Array pixels = need_array<uint8_t>(info[0], "pixels");
  const int width = need_int(info[1], "width", 1, kMostSide), height = need_int(info[2], "height", 1, kMostSide);
  if (pixels.ElementLength() != static_cast<size_t>(width) * static_cast<size_t>(height) * 3)
    wrong(env, "pixels", "three bytes for each pixel");
  const Resize to = read_resize(info[3], width, height);
  // Read where they lie: a copy of 100 megapixels would stall the event loop.
  const uint8_t* const data = pixels.Data();
  auto* worker = new PromiseWorker<std::vector<uint8_t>>(
      env,
      [data, width, height, to] {
        Team team(std::min(4, physical_cores()));
        return resample(*kernels::runnable_backends().items[0], data, width, height, to, team);
      },
      [](Napi::Env e, std::vector<uint8_t>& out) -> Napi::Value { return copy_array(e, out); }, {pixels});
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

}  // namespace tokensieve::addon
