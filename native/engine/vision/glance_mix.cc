// Rows that become more than one, crops that become one, and rows that are set aside and come back.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"
#include "engine/vision/glance.h"

namespace tokensieve {

namespace {

Error unfit(const std::string& what) { return Error(Code::plan, "[plan] expected " + what); }

}  // namespace

// y[g] = the weighted mean of the rows that have a share in it, or that row itself where it alone has.
void Glance::mix(const float* x, size_t d, const std::vector<std::vector<Share>>& groups, float* y, Team& team) {
  team.each(static_cast<int>(groups.size()), [&](int g, int) {
    const std::vector<Share>& shares = groups[static_cast<size_t>(g)];
    float* const out = y + static_cast<size_t>(g) * d;
    if (shares.size() == 1) {
      std::memcpy(out, x + static_cast<size_t>(shares[0].row) * d, d * sizeof(float));
      return;
    }
    float sum = 0;
    for (const Share& s : shares) sum += s.weight;
    std::fill(out, out + d, 0.f);
    for (const Share& s : shares) {
      const float* const row = x + static_cast<size_t>(s.row) * d;
      const float part = s.weight / sum;
      for (size_t i = 0; i < d; i++) out[i] += part * row[i];
    }
  });
}

// By the row that they are in.
std::vector<std::vector<Glance::Share>> Glance::shares_of(const std::vector<int32_t>& into,
                                                          const std::vector<float>& weights) const {
  const size_t n = source_.size();
  const size_t patches = n - static_cast<size_t>(std::count(source_.begin(), source_.end(), -1));
  const size_t each = patches > 0 ? into.size() / patches : 0;
  if (each == 0 || into.size() != each * patches || weights.size() != into.size())
    throw unfit("as many targets and weights for each of " + std::to_string(patches) + " patches");
  std::vector<std::vector<Share>> shares(n);
  size_t crop = 0;
  for (size_t i = 0, k = 0; i < n; i++) {
    while (static_cast<int32_t>(i) >= begin_[crop + 1]) crop++;
    if (source_[i] < 0) {
      shares[i].push_back({static_cast<int32_t>(i), 1});
      continue;
    }
    float sum = 0;
    for (size_t at = k * each; at < (k + 1) * each; at++) {
      const size_t target = row_of(crop, into[at]);
      if (!std::isfinite(weights[at]) || weights[at] < 0) throw unfit("weights of patches from 0 up");
      if (target == n) {
        throw unfit("shares in patches of their crop, patch " + std::to_string(source_[i]) + " has one in " +
                    std::to_string(into[at]));
      }
      if (weights[at] > 0) shares[target].push_back({static_cast<int32_t>(i), weights[at]});
      sum += weights[at];
    }
    if (!(sum > 0) || !std::isfinite(sum)) throw unfit("a share of every patch somewhere");
    k++;
  }
  return shares;
}

void Glance::blend(const std::vector<int32_t>& into, const std::vector<float>& weights) {
  may_cut();
  const size_t n = source_.size(), d = static_cast<size_t>(width_);
  std::vector<std::vector<Share>> shares = shares_of(into, weights);
  std::vector<float> whole(n);  // what each row gives in all
  for (const std::vector<Share>& all : shares)
    for (const Share& s : all) whole[static_cast<size_t>(s.row)] += s.weight;
  std::vector<std::vector<Share>> groups;
  std::vector<int32_t> kept, source;
  std::vector<float> size;
  for (size_t i = 0; i < n; i++) {
    if (shares[i].empty()) continue;
    kept.push_back(static_cast<int32_t>(i)), source.push_back(source_[i]), size.push_back(0);
    for (const Share& s : shares[i]) {
      const size_t row = static_cast<size_t>(s.row);
      size.back() += size_[row] * s.weight / whole[row];
    }
    groups.push_back(std::move(shares[i]));
  }
  Buffer mixed(kept.size() * d * sizeof(float));
  Team team(model_->threads);
  mix(hidden(), d, groups, mixed.as<float>(), team);
  for (int32_t& first : begin_)
    first = static_cast<int32_t>(std::lower_bound(kept.begin(), kept.end(), first) - kept.begin());
  hidden_ = std::move(mixed);
  source_.swap(source), size_.swap(size);
}

void Glance::join(int count) {
  may_cut();
  if (place_ > 2 * model_->config.layers || count < 1)
    throw unfit("crops to be joined in the tower, at least one at a time");
  if (!carried_.empty()) throw unfit("nothing to be set aside where crops are joined");
  if (count == 1) return;
  const int before = crops();
  std::vector<int32_t> index, begin, classes, first, source;
  std::vector<float> size;
  for (int crop = 0; crop < before; crop += count) {
    const int last = std::min(before, crop + count);
    begin.push_back(static_cast<int32_t>(index.size()));
    first.push_back(first_picture_[static_cast<size_t>(crop)]);
    for (int part = crop; part < last; part++)
      for (int row = this->begin(part); row < this->begin(part) + class_rows(part); row++) index.push_back(row);
    classes.push_back(static_cast<int32_t>(index.size()) - begin.back());
    for (int part = crop; part < last; part++)
      for (int row = this->begin(part) + class_rows(part); row < this->begin(part + 1); row++) index.push_back(row);
  }
  begin.push_back(static_cast<int32_t>(index.size())), first.push_back(first_picture_.back());
  for (int32_t i : index) {
    source.push_back(source_[static_cast<size_t>(i)]);
    size.push_back(size_[static_cast<size_t>(i)]);
  }
  const size_t d = static_cast<size_t>(width_);
  Buffer joined(index.size() * d * sizeof(float));
  Team team(model_->threads);
  model_->backend->gather(hidden(), d, width_, index.data(), static_cast<int>(index.size()), joined.as<float>(), d,
                          team);
  hidden_ = std::move(joined);
  begin_.swap(begin), class_rows_.swap(classes), first_picture_.swap(first), source_.swap(source), size_.swap(size);
}

void Glance::carry() {
  may_cut();
  const size_t d = static_cast<size_t>(width_);
  std::vector<float> means(static_cast<size_t>(crops()) * d);
  for (int crop = 0; crop < crops(); crop++) {
    const int first = begin(crop) + class_rows(crop), end = begin(crop + 1);
    double whole = 0;
    for (int row = first; row < end; row++) whole += static_cast<double>(size(row));
    std::vector<double> sums(d);
    for (int row = first; row < end; row++) {
      // Rows that came back stand for no patch; where nothing else is left they count alike.
      const double weight = whole > 0 ? static_cast<double>(size(row)) / whole : 1.0 / (end - first);
      const float* const x = hidden() + static_cast<size_t>(row) * d;
      for (size_t i = 0; i < d; i++) sums[i] += weight * static_cast<double>(x[i]);
    }
    std::copy(sums.begin(), sums.end(), means.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(crop) * d));
  }
  carried_.push_back(std::move(means));
}

// The crop of each source.
std::vector<int32_t> Glance::coming(const std::vector<int32_t>& sources) const {
  const int patches = model_->config.side * model_->config.side;
  std::vector<int32_t> crops_of;
  std::vector<size_t> counts(static_cast<size_t>(crops()));
  for (size_t i = 0; i < sources.size(); i++) {
    const int32_t source = sources[i];
    const bool ascends = source >= 0 && (i == 0 || source > sources[i - 1]);
    const int picture = source / patches;
    if (!ascends || picture >= first_picture_.back()) throw unfit("ascending patches of the crops to come back as");
    const auto at =
        std::upper_bound(first_picture_.begin(), first_picture_.end(), picture) - first_picture_.begin() - 1;
    const size_t crop = static_cast<size_t>(at);
    if (row_of(crop, source) < source_.size())
      throw unfit("rows to come back where there is none, patch " + std::to_string(source) + " is there");
    if (++counts[crop] > carried_.size()) {
      throw unfit("at most " + std::to_string(carried_.size()) +
                  " rows of a crop to come back, as many as were set aside");
    }
    crops_of.push_back(static_cast<int32_t>(crop));
  }
  return crops_of;
}

void Glance::recall(const std::vector<int32_t>& sources) {
  may_cut();
  if (place_ > 2 * model_->config.layers) throw unfit("rows to come back in the tower, where they were set aside");
  const std::vector<int32_t> crops_of = coming(sources);
  const size_t d = static_cast<size_t>(width_);
  std::vector<int32_t> begin, source;
  std::vector<float> size;
  Buffer more((source_.size() + sources.size()) * d * sizeof(float));
  const auto put = [&](int32_t name, float patches, const float* x) {
    std::memcpy(more.as<float>() + source.size() * d, x, d * sizeof(float));
    source.push_back(name), size.push_back(patches);
  };
  size_t next = 0;
  for (size_t crop = 0; crop + 1 < begin_.size(); crop++) {
    begin.push_back(static_cast<int32_t>(source.size()));
    size_t turn = 0;
    const auto here = [&] { return next < sources.size() && static_cast<size_t>(crops_of[next]) == crop; };
    const auto come = [&] { put(sources[next++], 0, carried_[turn++].data() + crop * d); };
    for (int32_t row = begin_[crop]; row < begin_[crop + 1]; row++) {
      const size_t i = static_cast<size_t>(row);
      while (source_[i] >= 0 && here() && sources[next] < source_[i]) come();
      put(source_[i], size_[i], hidden() + i * d);
    }
    while (here()) come();
  }
  begin.push_back(static_cast<int32_t>(source.size()));
  hidden_ = std::move(more);
  begin_.swap(begin), source_.swap(source), size_.swap(size);
  carried_.clear();
}

}  // namespace tokensieve
