// A loaded model: what an architecture file describes and every stage reads. Immutable after loading.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/device.h"
#include "engine/linear.h"
#include "engine/weights.h"

namespace tokensieve {

struct Config {
  std::string architecture, name;
  int layers = 0, heads = 0, kv_heads = 0, head_size = 0, hidden = 0, feed_forward = 0, vocabulary = 0, context = 0;
  float norm_eps = 1e-5f;
  float attention_scale = 0;    // of q k^T
  float embedding_scale = 1;
  kernels::Activation activation = kernels::Activation::silu;
};

// Angles of a rotary embedding: position / (base^(2i / rotated) * factors[i] * linear).
struct Rotary {
  double base = 10000, linear = 1;
  int rotated = 0;
  std::vector<float> factors;   // [rotated / 2] or empty (llama3 scaling)
  double dynamic = 0;           // dynamic NTK: the factor, 0 where it is not used
  int trained = 0;              // dynamic NTK: positions up to which the base stays
};

struct Layer {
  const float* attention_norm = nullptr;
  const float* feed_forward_norm = nullptr;
  const float* post_attention_norm = nullptr;      // null: the residual is added directly
  const float* post_feed_forward_norm = nullptr;
  const float* q_norm = nullptr;                   // [head_size] or null
  const float* k_norm = nullptr;
  Linear qkv;                                      // q heads, k heads, v heads
  Linear output, gate_up, down;
  int window = 0;                                  // rows that a query sees at most, 0: all
  int rotary = 0;                                  // index into Model::rotaries
};

struct Model : WeightStore {
  Config config;
  std::vector<Rotary> rotaries;
  std::vector<Layer> layers;
  kernels::PackedMatrix embedding;
  kernels::PackedMatrix head;                      // the embedding where tied
  const float* output_norm = nullptr;
  std::vector<Placement> stages;  // of all layers, in order; the ends stand with the layers beside them

  const Device& device(int layer) const;
  void wait() const;  // for all of them; throws Error(device)
  const Memory* memory() const;  // what all stages reach; null: the process's own
};

// host: what the processor's part is done with, and what is only ever done there (sampling, the upkeep of caches).
std::unique_ptr<Model> load_model(const Weights& weights, const kernels::Backend& host, const PlacementPlan& plan,
                                  int threads, const LoadControl& control);

// TOKENSIEVE_ISA's rule: "auto" is the best that runs here; an unknown or impossible name is Error(device).
const kernels::Backend& choose_backend(const std::string& name);

}  // namespace tokensieve
