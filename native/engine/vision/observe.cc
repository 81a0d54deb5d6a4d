// What is seen of an attention that has just run: of patches alone, without the class token's row and column. Means over heads.
#include <algorithm>

#include "engine/vision/tower.h"

namespace tokensieve {

using What = VisionLook::What;

void Tower::observe(const Batch& b, const VisionLook& look, Team& team) {
  std::vector<float>& out = b.glance.look_at(look);
  for (int crop = b.crop; crop < b.crop_end && !team.stopped(); crop++) {
    if (b.glance.begin(crop + 1) - b.glance.begin(crop) == b.glance.class_rows(crop)) continue;
    switch (look.what) {
      case What::class_shares: see_class(b, crop, out, team); break;
      case What::class_logits: see_logits(b, crop, out); break;
      case What::received: see_received(b, crop, out, team); break;
      case What::given: see_pairs(b, crop, false, out, team); break;
      case What::pairs: see_pairs(b, crop, true, out, team); break;
      case What::keys: see_keys(b, crop, out); break;
      case What::key_cosines: see_key_cosines(b, crop, out, team); break;
    }
  }
}

void Tower::see_class(const Batch& b, int crop, std::vector<float>& out, Team& team) {
  const int classes = b.glance.class_rows(crop);
  const kernels::AttentionJob job = part_of(b, crop, 0, classes);
  const size_t rows = static_cast<size_t>(job.views[0].rows), all = static_cast<size_t>(shape_.heads * classes);
  std::vector<float> lines(all * rows);
  scratch_.need(model_->backend->attention_probe_scratch(shape_, job, team.size()));
  model_->backend->attention_probe(shape_, job, true, lines.data(), rows, scratch_.data(), team);
  for (size_t j = static_cast<size_t>(classes); j < rows; j++) {
    double sum = 0;
    for (size_t h = 0; h < all; h++) sum += lines[h * rows + j];
    out.push_back(static_cast<float>(sum / static_cast<double>(all)));
  }
}

// The sum over heads of q . k is that over the whole width.
void Tower::see_logits(const Batch& b, int crop, std::vector<float>& out) const {
  const int begin = b.glance.begin(crop), end = b.glance.begin(crop + 1), width = shape_.heads * head_,
            classes = b.glance.class_rows(crop);
  std::vector<double> q(static_cast<size_t>(width));  // of several class tokens the mean
  for (int row = begin; row < begin + classes; row++)
    for (int i = 0; i < width; i++) q[static_cast<size_t>(i)] += static_cast<double>(query(b, row)[i]) / classes;
  for (int row = begin + classes; row < end; row++) {
    const float* k = query(b, row) + width;
    double sum = 0;
    for (int i = 0; i < width; i++) sum += q[static_cast<size_t>(i)] * static_cast<double>(k[i]);
    out.push_back(static_cast<float>(sum * static_cast<double>(shape_.scale) / shape_.heads));
  }
}

void Tower::see_received(const Batch& b, int crop, std::vector<float>& out, Team& team) {
  const int skip = b.glance.class_rows(crop), rows = b.glance.begin(crop + 1) - b.glance.begin(crop), n = rows - skip;
  const kernels::AttentionJob job = part_of(b, crop, skip, n);
  const size_t ld = static_cast<size_t>(rows);
  std::vector<float> sums(static_cast<size_t>(shape_.heads) * ld);
  scratch_.need(model_->backend->attention_probe_scratch(shape_, job, team.size()));
  model_->backend->attention_probe(shape_, job, false, sums.data(), ld, scratch_.data(), team);
  for (int j = skip; j < rows; j++) {
    double sum = 0;
    for (int h = 0; h < shape_.heads; h++) sum += sums[static_cast<size_t>(h) * ld + static_cast<size_t>(j)];
    out.push_back(static_cast<float>(sum / shape_.heads / n));
  }
}

// all: what each patch gives to each; otherwise its mean over those that it is given to. Some query rows at a time.
void Tower::see_pairs(const Batch& b, int crop, bool all, std::vector<float>& out, Team& team) {
  constexpr int kRows = 48;
  const int skip = b.glance.class_rows(crop), rows = b.glance.begin(crop + 1) - b.glance.begin(crop), n = rows - skip;
  const size_t ld = static_cast<size_t>(rows), heads = static_cast<size_t>(shape_.heads);
  std::vector<float> lines(static_cast<size_t>(std::min(kRows, n)) * heads * ld);
  for (int first = 0; first < n && !team.stopped(); first += kRows) {
    const int count = std::min(kRows, n - first);
    const kernels::AttentionJob job = part_of(b, crop, skip + first, count);
    scratch_.need(model_->backend->attention_probe_scratch(shape_, job, team.size()));
    model_->backend->attention_probe(shape_, job, true, lines.data(), ld, scratch_.data(), team);
    for (size_t i = 0; i < static_cast<size_t>(count); i++) {
      const float* line = lines.data() + i * heads * ld;
      double given = 0;
      for (size_t j = static_cast<size_t>(skip); j < ld; j++) {
        double sum = 0;
        for (size_t h = 0; h < heads; h++) sum += line[h * ld + j];
        if (all) out.push_back(static_cast<float>(sum / shape_.heads));
        given += sum;
      }
      if (!all) out.push_back(static_cast<float>(given / shape_.heads / n));
    }
  }
}

void Tower::see_keys(const Batch& b, int crop, std::vector<float>& out) const {
  const int size = model_->config.head_size;
  for (int row = b.glance.begin(crop) + b.glance.class_rows(crop); row < b.glance.begin(crop + 1); row++) {
    const float* k = query(b, row) + shape_.heads * head_;
    for (int i = 0; i < size; i++) {
      double sum = 0;
      for (int h = 0; h < shape_.heads; h++) sum += k[h * head_ + i];
      out.push_back(static_cast<float>(sum / shape_.heads));
    }
  }
}

void Tower::see_key_cosines(const Batch& b, int crop, std::vector<float>& out, Team& team) {
  std::vector<float> keys;
  see_keys(b, crop, keys);
  const int size = model_->config.head_size, rows = static_cast<int>(keys.size()) / size;
  const size_t n = static_cast<size_t>(rows), before = out.size();
  out.resize(before + n * n);
  make_units(keys.data(), rows, size, keys.data(), team);
  compare(keys.data(), rows, size, out.data() + before, team);
}

}  // namespace tokensieve
