// What one load of the addon (the main thread's, a worker thread's) owns: its classes, and the work that must stop when it ends.
#pragma once

#include <napi.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>

namespace tokensieve::addon {

// Work under way outlives the thread's JavaScript: it shares this and looks at `ending` before it touches an object.
struct Running {
  std::set<std::atomic<bool>*> stops;
  bool ending = false;
};

struct AddonData {
  Napi::FunctionReference file_class, session_class, model_class, sampler_class, vision_class, glance_class;
  std::shared_ptr<Running> running = std::make_shared<Running>();
  int64_t untold = 0;  // bytes of models that V8 has not heard of

  static AddonData& of(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }
};

}  // namespace tokensieve::addon
