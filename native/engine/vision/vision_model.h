// A vision tower with its projector: a ViT of the CLIP family (arXiv 2103.00020, 2303.15343) whose patch rows become rows of a decoder (LLaVA, arXiv 2310.03744; pixel shuffle: 2408.12637).
#pragma once

#include <memory>
#include <vector>

#include "engine/linear.h"
#include "engine/weights.h"

namespace tokensieve {

struct VisionConfig {
  enum class Projector : uint8_t { linear, mlp, pixel_shuffle };

  int image = 0, patch = 0;  // pixels of a side
  int side = 0;  // patches of a side
  int layers = 0, width = 0, heads = 0, head_size = 0, feed_forward = 0;
  bool class_token = false;
  kernels::Activation activation = kernels::Activation::quick_gelu;
  float eps = 1e-5f;
  Projector projector = Projector::linear;
  int pool = 1;  // patches of a side that the projector joins
  int output = 0;  // of a projected row
  float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f}, deviation[3] = {0.26862954f, 0.26130258f, 0.27577711f};
};

struct VisionNorm {
  const float *weight = nullptr, *bias = nullptr;  // null: there is no such norm
};

struct VisionBlock {
  VisionNorm attention_norm, feed_forward_norm;
  Linear qkv, output, up, down;
};

struct VisionModel : WeightStore {
  VisionConfig config;
  Linear patches;  // of 3 * patch * patch pixels: red, green, blue planes
  const float* class_row = nullptr;  // [width]
  const float* positions = nullptr;  // [class token, patches][width]
  VisionNorm pre_norm, post_norm;  // before the first block, behind the last
  std::vector<VisionBlock> blocks;
  VisionNorm projector_norm;  // before the projector
  Linear first, second;  // of the projector, GELU between; second has no parts but for mlp
  std::vector<float> newline;  // [output] or empty
};

// Of a GGUF of architecture clip, or of a folder that holds a tower beside a decoder. Throws Error.
std::unique_ptr<VisionModel> load_vision(const Weights& weights, const kernels::Backend& backend, int threads,
                                         const LoadControl& control);

}  // namespace tokensieve
