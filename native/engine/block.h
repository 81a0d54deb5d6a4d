// One layer on the rows of a batch: norm, attention over each session's own cache, MLP. Internal to stage.cc and probe.cc.
#pragma once

#include <vector>

#include "engine/expected.h"
#include "engine/stage.h"

namespace tokensieve {

// The views of one session's cache in one layer, for query rows with given sources. Owns what the kernels point into.
struct LayerViews {
  std::vector<kernels::View> views;  // [kv_heads]
  std::vector<std::vector<int32_t>> first, end;  // [kv_heads][n]
  std::vector<Numbers<float>> bias;

  void build(const Session& s, KvCache& cache, int layer, const int32_t* source, int n);
};

kernels::AttentionShape attention_shape(const Model& model);
Linear slice(const kernels::Backend& backend, const Linear& linear, int begin, int end,
             int cols);  // outputs [begin, end), multiples of 16

class Block {
 public:
  Block(Stage& stage, const Device& device, std::vector<StageEntry*>& entries, float* hidden, int rows, Team& team);
  void run(int layer);
  // The layer where nobody asks for other rows than the newest ones: of all rows their keys and values, which later rows
  // may ask for; then, by a block of the newest ones, everything else of those.
  void keep_rows(int layer);
  void run_newest(int layer);
  // Of it one sub-layer, unless the session skips it.
  void attention(int layer);
  void feed_forward(int layer);

 private:
  enum class Part : uint8_t { all, queries, keys };  // of q, k and v; keys: and values
  void take_in(int layer, Part part);
  void give_out(int layer);
  void project(int layer, Part part);
  void end(int layer);
  void rotate(int layer, Part part);
  void rotate_by_slot(int layer, size_t entry, bool taken);
  void hadamard_in(int layer, Part part);
  void hadamard_out(int layer);
  bool all_ask(bool HeadKv::* asks, int layer) const;
  void hadamard(bool HeadKv::* asks, int layer, float* rows, size_t ld, int each);
  void append(int layer);
  void watch_keys(int layer);
  void silence(int layer);
  void attend(int layer);
  // expected.cc
  void watch_queries(int layer);
  void look_ahead(int layer);
  std::vector<float> expect_rows(Session& s, int layer, int head, const Look& look);
  MeanRotation rotation_ahead(int layer, int from, int n, int length);
  std::vector<float> keys_seen(const Session& s, int layer, int head);
  void observe(StageEntry& e, int layer, const kernels::AttentionJob& job, const kernels::AttentionShape& shape);
  void add_to_hidden(const Linear& linear, const Input& in, const float* post_norm);

  Stage& stage_;
  const Model& model_;
  const Device& device_;
  const Arithmetic arithmetic_;  // of all entries
  const kernels::Backend& backend_;  // the device's
  std::vector<StageEntry*>& entries_;
  float* hidden_;
  int rows_;
  Team& team_;
  size_t width_;  // of a qkv row
  std::vector<int> at_;  // first row of each entry
  // Of the layer that runs; kept from layer to layer for their memory.
  std::vector<LayerViews> views_;
  std::vector<kernels::AttentionJob> jobs_, part_;
};

}  // namespace tokensieve
