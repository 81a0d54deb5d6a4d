// Rows of a head that fold into others before they go.
#include <algorithm>
#include <new>
#include <utility>

#include "core/error.h"
#include "engine/kv_cache.h"

namespace tokensieve {

namespace {

// Weights times sizes, those of a target adding up to 1.
void normalize(const std::vector<float>& sizes, Fold* fold) {
  std::vector<double> totals(sizes.size());
  std::vector<uint8_t> own(sizes.size());
  for (size_t i = 0; i < fold->from.size(); i++) {
    const size_t into = static_cast<size_t>(fold->into[i]);
    own[into] |= fold->from[i] == fold->into[i];
    totals[into] += static_cast<double>(fold->weight[i]) * sizes[static_cast<size_t>(fold->from[i])];
  }
  for (size_t row = 0; row < sizes.size(); row++) {
    if (totals[row] == 0 || own[row]) continue;
    totals[row] += sizes[row];
    fold->from.push_back(static_cast<int32_t>(row)), fold->into.push_back(static_cast<int32_t>(row));
    fold->weight.push_back(1);
  }
  for (size_t i = 0; i < fold->from.size(); i++) {
    const double total = totals[static_cast<size_t>(fold->into[i])];
    const double part = static_cast<double>(fold->weight[i]) * sizes[static_cast<size_t>(fold->from[i])];
    fold->weight[i] = static_cast<float>(total == 0 ? 0 : part / total);
  }
}

std::vector<int32_t> ascending(std::vector<int32_t> rows) {
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

size_t place(const std::vector<int32_t>& among, int32_t row) {
  return static_cast<size_t>(std::lower_bound(among.begin(), among.end(), row) - among.begin());
}

// Rows `targets` after the fold: [targets][width]. rows: those of `held`, all that the fold names.
std::vector<float> folded(const std::vector<float>& rows, const std::vector<int32_t>& held, size_t width,
                          const Fold& fold, const std::vector<int32_t>& targets) {
  std::vector<double> sums(targets.size() * width), own(targets.size(), 1.0);
  for (size_t i = 0; i < fold.from.size(); i++) {
    const size_t at = place(targets, fold.into[i]);
    if (fold.from[i] == fold.into[i]) {
      own[at] = static_cast<double>(fold.weight[i]);
      continue;
    }
    const float* from = rows.data() + place(held, fold.from[i]) * width;
    for (size_t d = 0; d < width; d++) sums[at * width + d] += static_cast<double>(fold.weight[i]) * from[d];
  }
  std::vector<float> out(sums.size());
  for (size_t t = 0; t < targets.size(); t++) {
    const float* row = rows.data() + place(held, targets[t]) * width;
    for (size_t d = 0; d < width; d++) out[t * width + d] = static_cast<float>(own[t] * row[d] + sums[t * width + d]);
  }
  return out;
}

void add_sizes(const Fold& fold, const std::vector<float>& before, HeadRows* table) {
  table->size = before;
  for (size_t i = 0; i < fold.from.size(); i++) {
    if (fold.from[i] != fold.into[i])
      table->size[static_cast<size_t>(fold.into[i])] += before[static_cast<size_t>(fold.from[i])];
  }
}

}  // namespace

void KvCache::fold(int layer, int head, const Fold& given, bool keys, bool sizes) {
  if (given.from.empty()) return;
  const size_t i = at(layer, head), width = static_cast<size_t>(shape_.head_size);
  Head& h = heads_[i];
  try {
    Fold fold = given;
    std::vector<float> before = h.table.size;
    if (before.empty()) before.assign(h.table.source.size(), 1.f);
    if (sizes) normalize(before, &fold);
    const std::vector<int32_t> targets = ascending(fold.into);
    std::vector<int32_t> held = fold.from;
    held.insert(held.end(), targets.begin(), targets.end());
    held = ascending(std::move(held));
    std::vector<float> rows(held.size() * width);
    for (KvSide* side : {&h.values, &h.keys}) {
      if (side == &h.keys && !keys) continue;
      side->read_some(held.data(), static_cast<int>(held.size()), rows.data());
      const std::vector<float> merged = folded(rows, held, width, fold, targets);
      for (size_t t = 0; t < targets.size(); t++) side->write(targets[t], merged.data() + t * width, *pages_);
    }
    if (sizes) add_sizes(fold, before, &h.table);
  } catch (const std::bad_alloc&) {
    throw Error(Code::out_of_memory, "[kv_cache] expected memory for rows that fold, the system gave none");
  }
  publish(i);
}

void KvSide::read_some(const int32_t* index, int n, float* out) const noexcept {
  const size_t width = static_cast<size_t>(format_->head_size);
  size_t at = 0;
  int begin = 0;  // of the piece
  Team alone(1);
  for (int i = 0; i < n; i++, out += width) {
    for (; index[i] >= begin + pieces_[at].count; at++) begin += pieces_[at].count;
    kernels::Piece row = pieces_[at];
    row.first = static_cast<int16_t>(row.first + index[i] - begin), row.count = 1;
    format_->backend->load_rows(format_->side, format_->head_size, row, out, width, alone);
  }
}

void KvSide::write(int row, const float* x, PageAllocator& pages) {
  size_t at = 0;
  for (; row >= pieces_[at].count; at++) row -= pieces_[at].count;
  if (grouped(at)) {
    throw Error(Code::unsupported,
                "[kv_cache] expected keys of a type that can be written row by row for keys that fold, got kivi");
  }
  own_page(at, pages);
  const kernels::Piece& piece = pieces_[at];
  const kernels::StoreJob job{
      format_->side,    piece.type, x, static_cast<size_t>(format_->head_size), 1, const_cast<uint8_t*>(piece.page),
      piece.first + row};
  Team alone(1);
  format_->backend->store_rows(format_->head_size, &job, 1, alone);
}

}  // namespace tokensieve
