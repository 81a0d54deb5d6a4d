// What an architecture file uses to turn tensors into a Model: names in, packed and checked matrices out.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/model.h"
#include "engine/packer.h"

namespace tokensieve {

class Loader : public Packer {
 public:
  Loader(const Weights& weights, Model& model, const LoadControl& control);

  Model& model() { return model_; }
  std::string key(const char* suffix) const;               // "llama." + suffix
  std::string block(int layer, const char* suffix) const;  // "blk.3." + suffix

  // Rows of q or k: the interleaved rotary pairs of a GGUF brought into the halves order; null where they are so already.
  const std::vector<int32_t>* rotary_order(int heads, int head_size, int rotated);

 private:
  Model& model_;
  std::vector<std::unique_ptr<std::vector<int32_t>>> orders_;
};

// A tensor of the tower or the projector, which a folder may hold beside the decoder's.
bool of_vision(const std::string& name);

// One line an architecture (models/registry.cc). describe fills config, rotaries, layers from the metadata and tensors.
struct Architecture {
  const char* name;
  void (*describe)(Loader& loader);
};
const Architecture* find_architecture(const std::string& name);
std::string architecture_names();

// Shared by architectures: sizes every decoder has, checked against each other; token embedding, output norm and head.
void read_sizes(Loader& loader);
void read_ends(Loader& loader, bool norm_plus_one);

}  // namespace tokensieve
