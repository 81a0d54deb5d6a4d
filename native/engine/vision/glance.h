// Crops on their way through a tower. Rows are patches, each crop's class token before them; a crop sees itself alone.
// Crops that were joined are one from then on: their class tokens, then their patches.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/vision/vision_model.h"

namespace tokensieve {

// What is observed of the attention of one block (VisionLook of lib/native-vision.ts).
struct VisionLook {
  enum class What : uint8_t { class_shares, class_logits, received, given, keys, key_cosines, pairs };
  int layer = 0;
  What what = What::class_shares;
};

class Glance {
 public:
  // pixels: [crops][3][image][image], normalised. Throws out_of_memory.
  Glance(std::shared_ptr<const VisionModel> model, const float* pixels, int crops);

  const VisionModel& model() const { return *model_; }
  std::atomic<bool>& stop() { return stop_; }

  // Places of the work: 2 * layer before a block's attention, 2 * layer + 1 before its MLP, 2 * layers before the projector, 2 * layers + 1 behind it. -1: pixels yet.
  int place() const { return place_; }
  int crops() const { return static_cast<int>(begin_.size()) - 1; }
  int rows() const { return begin_.back(); }  // class tokens among them
  int begin(int crop) const { return begin_[static_cast<size_t>(crop)]; }
  int class_rows(int crop) const { return class_rows_[static_cast<size_t>(crop)]; }
  int width() const { return width_; }
  bool proportional() const { return proportional_; }
  float size(int row) const { return size_[static_cast<size_t>(row)]; }
  int source(int row) const { return source_[static_cast<size_t>(row)]; }
  float* hidden() { return hidden_.as<float>(); }
  size_t bytes() const { return pixels_.bytes() + hidden_.bytes(); }
  const float* pixels() const { return reinterpret_cast<const float*>(pixels_.data()); }

  // Of patches alone.
  std::vector<int32_t> sources() const;
  std::vector<float> sizes() const;
  std::vector<float> patch_rows();
  std::vector<float> class_tokens();  // [crops][width]; empty where there are none
  const std::vector<float>& seen(int layer, VisionLook::What what) const;  // throws plan where nobody looked

  // Sources that stay, ascending; or the source that each row folds into (VisionApply of lib/native-vision.ts). Throw plan; nothing has changed then.
  void drop(const std::vector<int32_t>& kept);
  void merge(const std::vector<int32_t>& into, const std::vector<float>& weights, bool proportional);

  // Each row's shares, in [patches][n] sources and weights; neighbours become one crop; the mean of each crop's patches
  // is set aside; such means come back as rows of size 0, under sources that are free, ascending (glance_mix.cc).
  void blend(const std::vector<int32_t>& into, const std::vector<float>& weights);
  void join(int count);
  void carry();
  void recall(const std::vector<int32_t>& sources);

 private:
  friend class Tower;

  void may_cut() const;
  std::vector<int32_t> groups(const std::vector<int32_t>& into, std::vector<int32_t>* kept) const;
  void keep(const std::vector<int32_t>& index);  // rows that stay, all but for their numbers
  void begin_look(const VisionLook& look);
  struct Share {  // what a row gives to another
    int32_t row;
    float weight;
  };
  std::vector<std::vector<Share>> shares_of(const std::vector<int32_t>& into, const std::vector<float>& weights) const;
  static void mix(const float* x, size_t d, const std::vector<std::vector<Share>>& groups, float* y, Team& team);
  size_t row_of(size_t crop, int32_t source) const;  // rows() where it is not there
  std::vector<int32_t> coming(const std::vector<int32_t>& sources) const;
  std::vector<float>& look_at(const VisionLook& look) { return seen_[{look.layer, look.what}]; }

  std::shared_ptr<const VisionModel> model_;
  std::atomic<bool> stop_{false};
  int place_ = -1, width_ = 0;
  bool broken_ = false;  // work was stopped on its way
  bool proportional_ = false;
  Buffer pixels_, hidden_;  // hidden [rows][width]
  std::vector<int32_t> begin_;  // [crops + 1]: the first row of each
  std::vector<int32_t> class_rows_;  // [crops]
  std::vector<int32_t> first_picture_;  // [crops + 1]: of what was given, in crops that are joined
  std::vector<std::vector<float>> carried_;  // each [crops][width]
  std::vector<int32_t> source_;  // [rows], -1 for class tokens
  std::vector<float> size_;  // [rows]
  std::map<std::pair<int, VisionLook::What>, std::vector<float>> seen_;
};

}  // namespace tokensieve
