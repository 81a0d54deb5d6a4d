#include "engine/model.h"

#include "core/error.h"
#include "engine/loader.h"
#include "kernels/traced.h"

namespace tokensieve {

std::unique_ptr<Model> load_model(const Weights& weights, const kernels::Backend& backend, int threads,
                                  const LoadControl& control) {
  const std::string name = get_string(weights, "general.architecture", "");
  const Architecture* architecture = find_architecture(name);
  if (architecture == nullptr) {
    throw Error(Code::unsupported, "[model] expected one of the architectures " + architecture_names() +
                                       ", the file is \"" + name.substr(0, 60) + "\"");
  }
  auto model = std::make_unique<Model>();
  model->backend = &kernels::traced_backend(backend);
  model->threads = threads;
  model->config.architecture = name;
  model->fingerprint = weights.fingerprint();
  Loader loader(weights, *model, control);
  architecture->describe(loader);
  if (control.progress) control.progress(weights.file_bytes(), weights.file_bytes());
  return model;
}

const kernels::Backend& choose_backend(const std::string& name) {
  const kernels::BackendList& list = kernels::runnable_backends();
  if (name.empty() || name == "auto") return *list.items[0];
  const kernels::Backend* found = kernels::backend_by_name(name.c_str());
  if (found != nullptr) return *found;
  std::string known;
  for (int i = 0; i < list.count; i++) known += (i ? ", " : "") + std::string(list.items[i]->name);
  throw Error(Code::device, "[cpu] expected an instruction set that this machine can run (" + known +
                                "), TOKENSIEVE_ISA asks for \"" + name.substr(0, 60) + "\"");
}

}  // namespace tokensieve
