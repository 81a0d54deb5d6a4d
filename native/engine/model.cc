#include "engine/model.h"

#include <cstdio>

#include "core/error.h"
#include "engine/loader.h"
#include "kernels/traced.h"

namespace tokensieve {

namespace {

// Of the file, which is what they take when they are packed, a little more or less.
std::vector<size_t> layer_bytes(const Weights& weights, int layers) {
  std::vector<size_t> bytes(static_cast<size_t>(layers), 0);
  for (const auto& [name, tensor] : weights.tensors()) {
    int layer = -1;
    if (std::sscanf(name.c_str(), "blk.%d.", &layer) != 1) layer = name.rfind("output", 0) == 0 ? layers - 1 : 0;
    if (layer >= 0 && layer < layers) bytes[static_cast<size_t>(layer)] += tensor.bytes;
  }
  return bytes;
}

}  // namespace

const Device& Model::device(int layer) const {
  for (const Placement& stage : stages) {
    if (layer < stage.to) return stage.device;
  }
  return stages.back().device;
}

void Model::wait() const {
  for (const Placement& stage : stages) stage.device.wait();
}

const Memory* Model::memory() const {
  for (const Placement& stage : stages) {
    if (stage.device.memory() != nullptr) return stage.device.memory();
  }
  return nullptr;
}

std::unique_ptr<Model> load_model(const Weights& weights, const kernels::Backend& host, const PlacementPlan& plan,
                                  int threads, const LoadControl& control) {
  const std::string name = get_string(weights, "general.architecture", "");
  const Architecture* architecture = find_architecture(name);
  if (architecture == nullptr) {
    throw Error(Code::unsupported, "[model] expected one of the architectures " + architecture_names() +
                                       ", the file is \"" + name.substr(0, 60) + "\"");
  }
  auto model = std::make_unique<Model>();
  model->backend = &kernels::traced_backend(host);
  model->threads = threads;
  model->config.architecture = name;
  model->fingerprint = weights.fingerprint();
  const int layers = static_cast<int>(need_int(weights, name + ".block_count", 1, 1024));
  model->stages = place_layers(plan, layer_bytes(weights, layers), *model->backend);
  Loader loader(weights, *model, control);
  architecture->describe(loader);
  if (control.progress) control.progress(weights.file_bytes(), weights.file_bytes());
  return model;
}

const kernels::Backend& choose_backend(const std::string& name) {
  const kernels::BackendList& list = kernels::runnable_backends();
  if (name.empty() || name == "auto") return *list.items[0];
  const kernels::Backend* found = kernels::backend_by_name(name.c_str());
  if (found != nullptr && found->memory == nullptr) return *found;
  std::string known;
  for (int i = 0; i < list.count; i++) known += (i ? ", " : "") + std::string(list.items[i]->name);
  throw Error(Code::device, "[cpu] expected an instruction set that this machine can run (" + known +
                                "), TOKENSIEVE_ISA asks for \"" + name.substr(0, 60) + "\"");
}

}  // namespace tokensieve
