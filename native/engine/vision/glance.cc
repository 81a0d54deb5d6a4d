#include "engine/vision/glance.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <string>

#include "core/error.h"

namespace tokensieve {

namespace {

constexpr size_t kMostRows = size_t{1} << 22;

Error unfit(const std::string& what) { return Error(Code::plan, "[plan] expected " + what); }

}  // namespace

Glance::Glance(std::shared_ptr<const VisionModel> model, const float* pixels, int crops) : model_(std::move(model)) {
  const VisionConfig& c = model_->config;
  const size_t patches = static_cast<size_t>(c.side * c.side), plane = static_cast<size_t>(c.image) * c.image;
  width_ = c.width;
  if (crops < 1 || static_cast<size_t>(crops) > kMostRows / (patches + 1)) {
    throw Error(Code::out_of_memory, "[vision] expected 1 to " + std::to_string(kMostRows / (patches + 1)) +
                                         " crops at once, got " + std::to_string(crops));
  }
  const size_t bytes = static_cast<size_t>(crops) * 3 * plane * sizeof(float);
  pixels_ = Buffer(bytes);
  std::memcpy(pixels_.data(), pixels, bytes);
  for (int crop = 0; crop < crops; crop++) {
    begin_.push_back(static_cast<int32_t>(source_.size()));
    class_rows_.push_back(c.class_token ? 1 : 0), first_picture_.push_back(crop);
    if (c.class_token) source_.push_back(-1);
    for (size_t i = 0; i < patches; i++)
      source_.push_back(static_cast<int32_t>(static_cast<size_t>(crop) * patches + i));
  }
  begin_.push_back(static_cast<int32_t>(source_.size())), first_picture_.push_back(crops);
  size_.assign(source_.size(), 1.f);
}

std::vector<int32_t> Glance::sources() const {
  std::vector<int32_t> out;
  for (int32_t source : source_) {
    if (source >= 0) out.push_back(source);
  }
  return out;
}

std::vector<float> Glance::sizes() const {
  std::vector<float> out;
  for (size_t i = 0; i < size_.size(); i++) {
    if (source_[i] >= 0) out.push_back(size_[i]);
  }
  return out;
}

std::vector<float> Glance::patch_rows() {
  const size_t d = static_cast<size_t>(width_);
  std::vector<float> out;
  out.reserve(source_.size() * d);
  for (size_t i = 0; place_ >= 0 && i < source_.size(); i++) {
    if (source_[i] >= 0) out.insert(out.end(), hidden() + i * d, hidden() + (i + 1) * d);
  }
  return out;
}

std::vector<float> Glance::class_tokens() {
  const size_t d = static_cast<size_t>(width_);
  std::vector<float> out;
  for (size_t i = 0; place_ >= 0 && i < source_.size(); i++) {
    if (source_[i] < 0) out.insert(out.end(), hidden() + i * d, hidden() + (i + 1) * d);
  }
  return out;
}

const std::vector<float>& Glance::seen(int layer, VisionLook::What what) const {
  const auto at = seen_.find({layer, what});
  if (at == seen_.end())
    throw unfit("what was looked at in block " + std::to_string(layer) + ", there is nothing of that kind");
  return at->second;
}

// Of matrices of all rows those of one block are enough.
void Glance::begin_look(const VisionLook& look) {
  if (look.what == VisionLook::What::key_cosines) {
    for (auto it = seen_.begin(); it != seen_.end();)
      it = it->first.second == look.what ? seen_.erase(it) : std::next(it);
  }
  look_at(look).clear();
}

void Glance::may_cut() const {
  const VisionConfig& c = model_->config;
  if (place_ < 0 || broken_) throw Error(Code::internal, "[vision] expected rows that stand before a block");
  if (c.pool > 1 && place_ <= 2 * c.layers) {
    throw unfit("all patches to reach a projector that joins " + std::to_string(c.pool * c.pool) +
                " of them to one row: drop and merge behind it");
  }
}

void Glance::keep(const std::vector<int32_t>& index) {
  const size_t d = static_cast<size_t>(width_);
  std::vector<int32_t> begin, source;
  std::vector<float> size;
  for (int32_t i : index) {
    source.push_back(source_[static_cast<size_t>(i)]);
    size.push_back(size_[static_cast<size_t>(i)]);
  }
  for (int32_t first : begin_)
    begin.push_back(static_cast<int32_t>(std::lower_bound(index.begin(), index.end(), first) - index.begin()));
  Team team(model_->threads);
  model_->backend->gather(hidden(), d, width_, index.data(), static_cast<int>(index.size()), hidden(), d, team);
  begin_.swap(begin), source_.swap(source), size_.swap(size);
}

void Glance::drop(const std::vector<int32_t>& kept) {
  may_cut();
  if (kept.empty()) throw unfit("at least one patch to go on");
  std::vector<int32_t> index;
  size_t next = 0;
  for (size_t i = 0; i < source_.size(); i++) {
    if (source_[i] >= 0 && (next == kept.size() || source_[i] != kept[next])) continue;
    next += source_[i] >= 0;
    index.push_back(static_cast<int32_t>(i));
  }
  if (next < kept.size())
    throw unfit("ascending patches that are there, " + std::to_string(kept[next]) + " is none of them");
  if (index.size() < source_.size()) keep(index);
}

size_t Glance::row_of(size_t crop, int32_t source) const {
  const auto first = source_.begin() + begin_[crop] + class_rows_[crop], last = source_.begin() + begin_[crop + 1];
  const auto at = std::lower_bound(first, last, source);
  return at == last || *at != source ? source_.size() : static_cast<size_t>(at - source_.begin());
}

// The new row that each row becomes, and the rows that stay.
std::vector<int32_t> Glance::groups(const std::vector<int32_t>& into, std::vector<int32_t>* kept) const {
  std::vector<int32_t> group(source_.size(), -1);
  std::vector<size_t> rows;  // of the patches
  for (size_t i = 0; i < source_.size(); i++) {
    if (source_[i] >= 0) rows.push_back(i);
    if (source_[i] >= 0 && into[rows.size() - 1] != source_[i]) continue;
    group[i] = static_cast<int32_t>(kept->size());
    kept->push_back(static_cast<int32_t>(i));
  }
  for (size_t k = 0; k < rows.size(); k++) {
    const size_t i = rows[k];
    const auto crop = std::upper_bound(begin_.begin(), begin_.end(), static_cast<int32_t>(i)) - begin_.begin() - 1;
    const size_t target = row_of(static_cast<size_t>(crop), into[k]);
    if (target == source_.size() || group[target] < 0 ||
        (*kept)[static_cast<size_t>(group[target])] != static_cast<int32_t>(target)) {
      throw unfit("patches to fold into one of their crop that stays, patch " + std::to_string(source_[i]) +
                  " folds into " + std::to_string(into[k]));
    }
    group[i] = group[target];
  }
  return group;
}

void Glance::merge(const std::vector<int32_t>& into, const std::vector<float>& weights, bool proportional) {
  may_cut();
  const size_t n = source_.size(), d = static_cast<size_t>(width_);
  const size_t patches = n - static_cast<size_t>(std::count(source_.begin(), source_.end(), -1));
  if (into.size() != patches || (!weights.empty() && weights.size() != patches))
    throw unfit("a target, and a weight or none, for each of " + std::to_string(patches) + " patches");
  std::vector<int32_t> kept;
  const std::vector<int32_t> group = groups(into, &kept);
  std::vector<float> weight = size_, size(kept.size()), sums(kept.size());
  std::vector<int> members(kept.size());
  for (size_t i = 0, k = 0; i < n; i++) {
    if (source_[i] >= 0 && !weights.empty()) weight[i] = weights[k];
    k += source_[i] >= 0;
    if (!std::isfinite(weight[i]) || weight[i] < 0) throw unfit("weights of patches from 0 up");
    const size_t g = static_cast<size_t>(group[i]);
    members[g]++, size[g] += size_[i], sums[g] += weight[i];
  }
  // Rows that stand for no patch, and nothing but such, count alike.
  for (size_t i = 0; weights.empty() && i < n; i++) {
    const size_t g = static_cast<size_t>(group[i]);
    if (size[g] == 0) weight[i] = 1, sums[g] = 1;
  }
  for (size_t g = 0; g < sums.size(); g++) {
    if (members[g] > 1 && !(sums[g] > 0 && std::isfinite(sums[g])))
      throw unfit("weights that add up to more than 0 where patches fold");
  }
  if (kept.size() < n) {
    Buffer merged(kept.size() * d * sizeof(float));
    Team team(model_->threads);
    model_->backend->merge(hidden(), d, width_, group.data(), weight.data(), static_cast<int>(n),
                           static_cast<int>(kept.size()), merged.as<float>(), d, sums.data(), team);
    std::vector<int32_t> source;
    for (int32_t i : kept) source.push_back(source_[static_cast<size_t>(i)]);
    for (int32_t& first : begin_)
      first = static_cast<int32_t>(std::lower_bound(kept.begin(), kept.end(), first) - kept.begin());
    hidden_ = std::move(merged);
    source_.swap(source), size_.swap(size);
  }
  proportional_ = proportional_ || proportional;
}

}  // namespace tokensieve
