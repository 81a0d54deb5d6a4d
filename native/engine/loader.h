// What an architecture file uses to turn tensors into a Model: names in, packed and checked matrices out.
#pragma once

#include <string>
#include <vector>

#include "engine/model.h"

namespace tokensieve {

class Loader {
 public:
  Loader(const Weights& weights, Model& model, const LoadControl& control);

  const Weights& weights() const { return weights_; }
  Model& model() { return model_; }
  std::string key(const char* suffix) const;                       // "llama." + suffix
  std::string block(int layer, const char* suffix) const;          // "blk.3." + suffix

  // A vector of f32; null where `optional` and absent. plus_one: Gemma's (1 + w) convention is applied where the file has it open.
  const float* vector(const std::string& name, int size, bool optional = false, bool plus_one = false,
                      const std::vector<int32_t>* map = nullptr);
  kernels::PackedMatrix matrix(const std::string& name, int rows, int cols);

  struct Source {
    std::string name;  // without ".weight"
    int rows;
    const std::vector<int32_t>* map;  // packed row r is row map[r], or null
  };
  // bias vectors (name + ".bias") are taken where the file has them.
  Linear linear(const std::vector<Source>& sources, int cols);

  // Rows of q or k: the interleaved rotary pairs of a GGUF brought into the halves order; null where they are so already.
  const std::vector<int32_t>* rotary_order(int heads, int head_size, int rotated);

 private:
  kernels::PackedMatrix pack(const std::vector<const Tensor*>& tensors,
                             const std::vector<const std::vector<int32_t>*>& maps);
  uint8_t* room(size_t bytes);
  const float* keep(const std::vector<float>& values);
  void pack_rows(const Tensor& t, const std::vector<int32_t>* map, uint8_t* out, Team& team);
  void advance(const Tensor& t, size_t from, size_t to);

  const Weights& weights_;
  Model& model_;
  const LoadControl& control_;
  std::vector<std::unique_ptr<std::vector<int32_t>>> orders_;
  uint64_t done_ = 0, total_ = 0;  // bytes of tensors
  uint8_t* next_ = nullptr;  // what is left of the newest buffer
  size_t left_ = 0;
};

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
