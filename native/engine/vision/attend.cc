// The attention of a batch of crops: each crop's keys and values into pages of their own, every row sees its whole crop.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/vision/tower.h"

namespace tokensieve {

using kernels::kPageRows;
using kernels::Side;

// Heads whose size is no multiple of 16 get zeros behind: scores and outputs stay what they are.
void Tower::spread(int rows, Team& team) {
  const VisionConfig& c = model_->config;
  const size_t own = static_cast<size_t>(c.head_size), room = static_cast<size_t>(head_),
               heads = static_cast<size_t>(3 * c.heads);
  padded_.need(static_cast<size_t>(rows) * ld_ * sizeof(float));
  team.each(rows, [&](int row, int) {
    const float* from = wide_.as<float>() + static_cast<size_t>(row) * heads * own;
    float* to = padded_.as<float>() + static_cast<size_t>(row) * ld_;
    for (size_t h = 0; h < heads; h++, from += own, to += room) {
      std::memcpy(to, from, own * sizeof(float));
      std::memset(to + own, 0, (room - own) * sizeof(float));
    }
  });
}

void Tower::collect(int rows, Team&) {
  const VisionConfig& c = model_->config;
  const size_t own = static_cast<size_t>(c.head_size), room = static_cast<size_t>(head_),
               heads = static_cast<size_t>(rows) * static_cast<size_t>(c.heads);
  float* const x = attended_.as<float>();
  for (size_t h = 1; h < heads; h++) std::memmove(x + h * own, x + h * room, own * sizeof(float));
}

const float* Tower::query(const Batch& b, int row) const {
  const Buffer& rows = head_ == model_->config.head_size ? wide_ : padded_;
  return reinterpret_cast<const float*>(rows.data()) + static_cast<size_t>(row - b.row) * ld_;
}

// Views of every crop and head, and the rows themselves.
void Tower::page(const Batch& b, Team& team) {
  const kernels::Backend& backend = *model_->backend;
  const size_t bytes[2] = {backend.page_bytes(Side::keys, stored_, head_),
                           backend.page_bytes(Side::values, stored_, head_)};
  const int heads = shape_.heads, crops = b.crop_end - b.crop;
  size_t pages = 0;
  std::vector<size_t> first_page;  // [crops]
  for (int crop = b.crop; crop < b.crop_end; crop++) {
    first_page.push_back(pages);
    const int rows = b.glance.begin(crop + 1) - b.glance.begin(crop);
    pages += static_cast<size_t>(heads) * static_cast<size_t>((rows + kPageRows - 1) / kPageRows);
  }
  const size_t room = pages * (bytes[0] + bytes[1]);
  if (pages_.bytes() < room) pages_ = Buffer(), pages_ = Buffer(room, true);  // what no row fills stays a number
  keys_.resize(pages), values_.resize(pages), fills_.resize(2 * pages);
  views_.assign(static_cast<size_t>(crops * heads), {});
  first_.assign(static_cast<size_t>(b.rows), 0), end_.resize(first_.size());
  bias_.clear();
  for (int row = b.row; b.glance.proportional() && row < b.row + b.rows; row++)
    bias_.push_back(b.glance.size(row) > 0 ? std::log(b.glance.size(row)) : 0.f);
  for (int crop = b.crop; crop < b.crop_end; crop++) {
    const int from = b.glance.begin(crop) - b.row, to = b.glance.begin(crop + 1) - b.row;
    std::fill(end_.begin() + from, end_.begin() + to, to - from);
  }
  for (int index = 0; index < crops * heads; index++) {
    const int crop = b.crop + index / heads, head = index % heads, begin = b.glance.begin(crop);
    const int rows = b.glance.begin(crop + 1) - begin, count = (rows + kPageRows - 1) / kPageRows;
    size_t at = first_page[static_cast<size_t>(index / heads)] + static_cast<size_t>(head * count);
    kernels::View& view = views_[static_cast<size_t>(index)];
    view.keys = keys_.data() + at, view.values = values_.data() + at;
    view.key_pieces = view.value_pieces = count, view.rows = rows;
    view.first = first_.data() + (begin - b.row), view.end = end_.data() + (begin - b.row);
    if (!bias_.empty()) view.bias = bias_.data() + (begin - b.row);
    for (int done = 0; done < rows; done += kPageRows, at++) {
      const int n = std::min(kPageRows, rows - done);
      const float* k = query(b, begin + done) + static_cast<size_t>((shape_.heads + head) * head_);
      const float* v = k + static_cast<size_t>(shape_.heads * head_);
      uint8_t* key_page = pages_.data() + at * (bytes[0] + bytes[1]);
      fills_[2 * at] = {Side::keys, stored_, k, ld_, n, key_page, 0};
      fills_[2 * at + 1] = {Side::values, stored_, v, ld_, n, key_page + bytes[0], 0};
      keys_[at] = {key_page, 0, static_cast<int16_t>(n), stored_};
      values_[at] = {key_page + bytes[0], 0, static_cast<int16_t>(n), stored_};
    }
  }
  backend.store_rows(head_, fills_.data(), static_cast<int>(fills_.size()), team);
}

// Query rows [first, first + n) of a crop.
kernels::AttentionJob Tower::part_of(const Batch& b, int crop, int first, int n) const {
  kernels::AttentionJob job;
  job.q = query(b, b.glance.begin(crop) + first), job.ldq = ld_, job.n = n;
  job.views = views_.data() + static_cast<size_t>((crop - b.crop) * shape_.heads);
  return job;
}

void Tower::attend(const Batch& b, Team& team) {
  const size_t width = static_cast<size_t>(shape_.heads * head_);
  jobs_.clear();
  for (int crop = b.crop; crop < b.crop_end; crop++) {
    const int begin = b.glance.begin(crop), n = b.glance.begin(crop + 1) - begin;
    if (n == 0) continue;
    jobs_.push_back(part_of(b, crop, 0, n));
    jobs_.back().out = attended_.as<float>() + static_cast<size_t>(begin - b.row) * width;
    jobs_.back().ldo = width;
  }
  const int count = static_cast<int>(jobs_.size());
  scratch_.need(model_->backend->attention_scratch(shape_, jobs_.data(), count, team.size()));
  model_->backend->attention(shape_, jobs_.data(), count, scratch_.data(), team);
}

}  // namespace tokensieve
