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

// What folds into each target, in the order given: entries [begin[t], begin[t + 1]) of `order`.
struct Parts {
  std::vector<size_t> begin, order;
};

Parts by_target(const Fold& fold, const std::vector<int32_t>& targets) {
  Parts parts;
  parts.begin.resize(targets.size() + 1);
  std::vector<size_t> target(fold.from.size());
  for (size_t i = 0; i < fold.from.size(); i++) {
    target[i] = place(targets, fold.into[i]);
    parts.begin[target[i] + 1]++;
  }
  for (size_t t = 0; t < targets.size(); t++) parts.begin[t + 1] += parts.begin[t];
  std::vector<size_t> next(parts.begin);
  parts.order.resize(fold.from.size());
  for (size_t i = 0; i < fold.from.size(); i++) parts.order[next[target[i]]++] = i;
  return parts;
}

// Rows `targets` of a side after the fold -> out [targets][width]. at: where the rows `held` are, all that the fold names.
void mix_rows(kernels::Side side, const std::vector<PageWork::Place>& at, const std::vector<int32_t>& held,
              const Fold& fold, const std::vector<int32_t>& targets, const Parts& parts, size_t width, float* out,
              PageWork& work) {
  PageWork::Mark mark;
  for (size_t t = 0; t < targets.size(); t++) {
    float own = 1;
    work.apart(&mark);
    work.hold(static_cast<int>(parts.begin[t + 1] - parts.begin[t]) + 2);
    for (size_t i = parts.begin[t]; i < parts.begin[t + 1]; i++) {
      const size_t entry = parts.order[i];
      if (fold.from[entry] == fold.into[entry]) {
        own = fold.weight[entry];
      } else {
        work.add(side, at[place(held, fold.from[entry])], fold.weight[entry]);
      }
    }
    work.mix(side, at[place(held, targets[t])], own, 0);
    work.give(0, 1, out + t * width);
  }
  work.flush();  // all of it is read before the first of it is written
}

void add_sizes(const Fold& fold, const std::vector<float>& before, HeadRows* table) {
  table->size = before;
  for (size_t i = 0; i < fold.from.size(); i++) {
    if (fold.from[i] != fold.into[i])
      table->size[static_cast<size_t>(fold.into[i])] += before[static_cast<size_t>(fold.from[i])];
  }
}

}  // namespace

void KvCache::fold(int layer, int head, const Fold& given, bool keys, bool sizes, PageWork* batch) {
  if (given.from.empty()) return;
  const size_t i = at(layer, head), width = static_cast<size_t>(shape_.head_size);
  Head& h = heads_[i];
  Work work(*this, layer, batch);
  try {
    Fold fold = given;
    std::vector<float> before = h.table.size;
    if (before.empty()) before.assign(h.table.rows(), 1.f);
    if (sizes) normalize(before, &fold);
    const std::vector<int32_t> targets = ascending(fold.into);
    std::vector<int32_t> held = fold.from;
    held.insert(held.end(), targets.begin(), targets.end());
    held = ascending(std::move(held));
    const Parts parts = by_target(fold, targets);
    std::vector<PageWork::Place> at(held.size());
    for (KvSide* side : {&h.values, &h.keys}) {
      if (side == &h.keys && !keys) continue;
      float* const merged = (*work).numbers(targets.size() * width);
      side->places(held.data(), static_cast<int>(held.size()), at.data());
      mix_rows(side->format().side, at, held, fold, targets, parts, width, merged, *work);
      side->write(targets.data(), static_cast<int>(targets.size()), merged, *work);
    }
    if (sizes) add_sizes(fold, before, &h.table);
  } catch (const std::bad_alloc&) {
    throw Error(Code::out_of_memory, "[kv_cache] expected memory for rows that fold, the system gave none");
  }
  publish(i);
}

}  // namespace tokensieve
