// Runs glances through a tower, a half block at a time: norm and attention, or norm and MLP, of all crops, in batches of crops that bound the memory of what lies between.
#pragma once

#include <memory>
#include <vector>

#include "engine/vision/glance.h"

namespace tokensieve {

class Tower {
 public:
  explicit Tower(std::shared_ptr<const VisionModel> model);

  // To a place behind the glance's own (Glance::place), or embeds only. Of looks those count whose attention runs. Throws aborted, out_of_memory: the glance is lost then.
  void advance(Glance& glance, int to, const std::vector<VisionLook>& looks);

  // Cosines of the patches as they stand, each crop's [its rows][its rows]; 0 with a row of zeros. Throws aborted, out_of_memory.
  std::vector<float> cosines(Glance& glance);

 private:
  // Crops [crop, crop_end) of a glance: rows [row, row + rows).
  struct Batch {
    Glance& glance;
    int crop, crop_end, row, rows;
  };

  std::vector<Batch> batches(Glance& glance) const;
  void run(Glance& glance, int to, const std::vector<VisionLook>& looks, Team& team);
  void embed(Glance& glance, Team& team);
  void embed(const Batch& b, Team& team);
  void attention(const Batch& b, int layer, const std::vector<VisionLook>& looks, Team& team);
  void attend(const Batch& b, Team& team);
  void page(const Batch& b, Team& team);
  void spread(int rows, Team& team);
  void collect(int rows, Team& team);
  void feed_forward(const Batch& b, int layer, Team& team);
  void post_norm(const Batch& b, Team& team);
  void project(Glance& glance, Team& team);
  void project(const Batch& b, float* out, Team& team);
  int gather_patches(const Batch& b, float* out, Team& team) const;
  void norm(const VisionNorm& norm, const float* x, int rows, int width, float* y, Team& team) const;
  void apply(const Linear& linear, const float* x, int rows, int cols, bool accumulate, float* out, Team& team);

  // compare.cc
  static void make_units(const float* x, int rows, int width, float* y, Team& team);  // y = x / |x|; zeros stay
  void compare(const float* units, int rows, int width, float* out, Team& team);

  // observe.cc
  void observe(const Batch& b, const VisionLook& look, Team& team);
  void see_class(const Batch& b, int crop, std::vector<float>& out, Team& team);
  void see_logits(const Batch& b, int crop, std::vector<float>& out) const;
  void see_received(const Batch& b, int crop, std::vector<float>& out, Team& team);
  void see_pairs(const Batch& b, int crop, bool all, std::vector<float>& out, Team& team);
  void see_keys(const Batch& b, int crop, std::vector<float>& out) const;
  void see_key_cosines(const Batch& b, int crop, std::vector<float>& out, Team& team);
  kernels::AttentionJob part_of(const Batch& b, int crop, int first, int n) const;
  const float* query(const Batch& b, int row) const;  // key: + heads * padded head size

  std::shared_ptr<const VisionModel> model_;
  int head_ = 0;  // head size, up to a multiple of 16: what attention reads
  size_t ld_ = 0;  // of rows of q, k, v as attention reads them
  DType stored_ = DType::f32;  // keys and values in pages
  kernels::AttentionShape shape_;
  Buffer normed_, wide_, padded_, attended_, inner_, pages_, prepared_, scratch_;

  // Of the batch that attends: its crops' pages and what every query row sees, which is all.
  std::vector<kernels::Piece> keys_, values_;  // [crop][head][page]
  std::vector<kernels::StoreJob> fills_;  // of the pages: keys and values side by side
  std::vector<kernels::View> views_;  // [crop][head]
  std::vector<kernels::AttentionJob> jobs_;  // [crop]
  std::vector<int32_t> first_, end_;  // [rows]
  std::vector<float> bias_;  // [rows], or empty
};

}  // namespace tokensieve
