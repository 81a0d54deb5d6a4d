// A loaded model: what an architecture file describes and every stage reads. Immutable after loading.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "engine/weights.h"
#include "kernels/backend.h"

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

// One or several matrices with the same input, their outputs side by side; neighbours of one type are packed as one.
struct Linear {
  struct Part {
    kernels::PackedMatrix w;
    int offset = 0;             // first output column
    const float* bias = nullptr;
  };
  std::vector<Part> parts;
  int rows = 0;                 // all outputs
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

struct Model {
  Config config;
  std::vector<Rotary> rotaries;
  std::vector<Layer> layers;
  kernels::PackedMatrix embedding;
  kernels::PackedMatrix head;                      // the embedding where tied
  const float* output_norm = nullptr;

  const kernels::Backend* backend = nullptr;
  int threads = 1;
  std::vector<Buffer> buffers;                     // own every pointer above
  size_t weight_bytes = 0;
  std::string fingerprint;
};

struct LoadControl {
  std::function<void(uint64_t done, uint64_t total)> progress;   // called from the loading thread; may be empty
  const std::atomic<bool>* stop = nullptr;                       // once true: Error(aborted)
};

std::unique_ptr<Model> load_model(const Weights& weights, const kernels::Backend& backend, int threads,
                                  const LoadControl& control);

// TOKENSIEVE_ISA's rule: "auto" is the best that runs here; an unknown or impossible name is Error(device).
const kernels::Backend& choose_backend(const std::string& name);

}  // namespace tokensieve
