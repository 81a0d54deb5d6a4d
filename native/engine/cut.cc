// Cuts: what a plan does to the rows of a call between two layers, and to the rows of the cache.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <functional>
#include <string>

#include "core/error.h"
#include "engine/session.h"

namespace tokensieve {

namespace {

// Indices into `from` (ascending) of every value of `wanted` (ascending, all present), or Error(plan).
std::vector<int32_t> places(const std::vector<int32_t>& from, const std::vector<int32_t>& wanted, const char* what) {
  std::vector<int32_t> index;
  index.reserve(wanted.size());
  size_t j = 0;
  for (size_t i = 0; i < wanted.size(); i++) {
    if (i > 0 && wanted[i] <= wanted[i - 1])
      throw Error(Code::plan, std::string("[plan] expected ascending ") + what + ", got " +
                                  std::to_string(wanted[i - 1]) + " before " + std::to_string(wanted[i]));
    while (j < from.size() && from[j] < wanted[i]) j++;
    if (j == from.size() || from[j] != wanted[i])
      throw Error(Code::plan, std::string("[plan] expected ") + what + " that are there, token " +
                                  std::to_string(wanted[i]) + " is not");
    index.push_back(static_cast<int32_t>(j));
  }
  return index;
}

}  // namespace

void Session::record_cut(const std::vector<int32_t>& kept, bool repack) {
  size_t j = 0;
  for (int32_t s : rows_.source) {
    if (j < kept.size() && kept[j] == s) {
      j++;
    } else {
      fates_[static_cast<size_t>(s)] = {static_cast<uint16_t>(layer_), !repack};
    }
  }
}

// Rows that pass are known by their places.
void Session::need_all_here() const {
  if (passing_.layer == layer_)
    throw Error(Code::plan, "[plan] expected rows to go or fold before others pass layer " + std::to_string(layer_));
}

void Session::drop(const std::vector<int32_t>& kept, bool repack) {
  if (!running_ || kept.empty()) throw Error(Code::plan, "[plan] expected at least one row to go on");
  need_all_here();
  const std::vector<int32_t> index = places(rows_.source, kept, "rows");
  if (index.size() == rows_.source.size()) return;
  const size_t d = static_cast<size_t>(model_->config.hidden);
  const Device& device = model_->device(layer_);
  Team team(model_->threads, nullptr, device.queue.get());
  record_cut(kept, repack);
  device.backend->gather(rows_.hidden.as<float>(), d, static_cast<int>(d), index.data(), static_cast<int>(index.size()),
                         rows_.hidden.as<float>(), d, team);
  device.wait();
  for (size_t i = 0; i < index.size(); i++) {
    rows_.offset[i] = repack ? static_cast<int32_t>(i) : rows_.offset[static_cast<size_t>(index[i])];
    if (!rows_.size.empty()) rows_.size[i] = rows_.size[static_cast<size_t>(index[i])];
  }
  rows_.source = kept;
  rows_.offset.resize(index.size());
  if (!rows_.size.empty()) rows_.size.resize(index.size());
  if (repack) rows_.extent = static_cast<int>(index.size());
}

void Session::merge(const std::vector<int32_t>& into, bool repack) {
  const size_t n = rows_.source.size(), d = static_cast<size_t>(model_->config.hidden);
  if (!running_ || into.size() != n)
    throw Error(Code::plan, "[plan] expected one target for each of " + std::to_string(n) + " rows, got " +
                                std::to_string(into.size()));
  need_all_here();
  std::vector<int32_t> kept;
  for (size_t i = 0; i < n; i++) {
    if (into[i] == rows_.source[i]) kept.push_back(into[i]);
  }
  if (kept.size() == n) return;
  std::vector<int32_t> group(n), offset;
  for (size_t i = 0; i < n; i++) {
    const auto at = std::lower_bound(kept.begin(), kept.end(), into[i]);
    if (at == kept.end() || *at != into[i])
      throw Error(Code::plan,
                  "[plan] expected rows to fold into a row that stays, token " + std::to_string(into[i]) + " does not");
    group[i] = static_cast<int32_t>(at - kept.begin());
    if (into[i] == rows_.source[i]) offset.push_back(repack ? static_cast<int32_t>(offset.size()) : rows_.offset[i]);
  }
  if (rows_.size.empty()) rows_.size.assign(n, 1.f);
  Buffer hidden(kept.size() * d * sizeof(float), false, model_->memory());
  std::vector<float> size(kept.size());
  Team team(model_->threads);
  model_->backend->merge(rows_.hidden.as<float>(), d, static_cast<int>(d), group.data(), rows_.size.data(),
                         static_cast<int>(n), static_cast<int>(kept.size()), hidden.as<float>(), d, size.data(), team);
  record_cut(kept, repack);
  rows_.hidden = std::move(hidden);
  rows_.size = std::move(size);
  rows_.source = std::move(kept);
  rows_.offset = std::move(offset);
  if (repack) rows_.extent = static_cast<int>(rows_.source.size());
}

void Session::pass(const std::vector<int32_t>& kept, bool mlp, std::vector<float> weight) {
  if (!running_ || kept.empty() || kept.back() != rows_.source.back())
    throw Error(Code::plan, "[plan] expected the last row of a call among those that take part in a layer");
  if (!weight.empty() && (mlp || weight.size() != rows_.source.size()))
    throw Error(Code::plan, "[plan] expected weights for none or each of " + std::to_string(rows_.source.size()) +
                                " rows that pass all of a layer, got " + std::to_string(weight.size()));
  for (float w : weight) {
    if (!std::isfinite(w)) throw Error(Code::plan, "[plan] expected finite weights of rows that pass a layer");
  }
  need_all_here();
  std::vector<int32_t> run = places(rows_.source, kept, "rows");
  passing_ = {layer_, std::move(run), mlp, std::move(weight)};
}

namespace {

// Sources -> rows of the head. What is folded must be there, and stay where something folds into it.
Fold located(Fold fold, const std::vector<int32_t>& rows, const std::vector<int32_t>& kept) {
  if (fold.from.size() != fold.into.size() || fold.from.size() != fold.weight.size())
    throw Error(Code::plan, "[plan] expected a target and a weight for each row that folds");
  const auto locate = [&](int32_t source, const std::vector<int32_t>& among) {
    const auto at = std::lower_bound(among.begin(), among.end(), source);
    if (at == among.end() || *at != source)
      throw Error(Code::plan, "[plan] expected rows to fold into rows that stay, token " + std::to_string(source) +
                                  " is no such row");
    return static_cast<int32_t>(at - among.begin());
  };
  for (int32_t& source : fold.from) source = locate(source, rows);
  for (int32_t& source : fold.into) locate(source, kept), source = locate(source, rows);
  return fold;
}

}  // namespace

// Where a decode step takes a row or two away, they go as standing rules let them go: the others stay where they lie.
bool Session::remove_few(int layer, int head, const std::vector<int32_t>& kept, PageWork& batch) {
  constexpr int kFew = 4;
  const int rows = cache_->rows(layer, head), gone = rows - static_cast<int>(kept.size());
  if (ids_.size() > 1 || gone > kFew) return false;
  for (int row = rows - 1, k = static_cast<int>(kept.size()) - 1; row >= 0; row--) {
    if (k >= 0 && kept[static_cast<size_t>(k)] == row) {
      k--;
    } else {
      if (!cache_->remove_row(layer, head, row, &batch))
        throw Error(Code::out_of_memory, "[kv_cache] expected memory for the rows that stay, the system gave none");
    }
  }
  return true;
}

void Session::evict_head(const Eviction& e, int head, const std::vector<int32_t>& rows, const Fold& fold,
                         PageWork& batch) {
  const size_t h = static_cast<size_t>(head);
  if (e.stored.empty() && static_cast<int>(rows.size()) == cache_->rows(e.layer, head)) return;
  cache_->fold(e.layer, head, fold, e.folds.keys, e.folds.sizes, &batch);
  if (!e.stored.empty()) {
    cache_->exchange(e.layer, head, e.kept[h], e.stored[h], &batch);
  } else if (!remove_few(e.layer, head, rows, batch)) {
    cache_->keep_rows(e.layer, head, rows.data(), static_cast<int>(rows.size()), &batch);
  }
}

namespace {

// Rows as they lie (ascending) of the tokens that are kept.
std::vector<int32_t> rows_kept(const HeadRows& held, const std::vector<int32_t>& kept) {
  if (held.coarse.empty()) return places(held.source.all(), kept, "cache rows");
  const std::vector<int32_t> coarse = held.coarse.all();
  std::vector<int32_t> first, others;
  for (int32_t source : kept)
    (std::binary_search(coarse.begin(), coarse.end(), source) ? first : others).push_back(source);
  std::vector<int32_t> rows = places(coarse, first, "cache rows");
  for (int32_t row : places(held.source.all(), others, "cache rows"))
    rows.push_back(row + static_cast<int32_t>(coarse.size()));
  return rows;
}

// f(entry, head, batch) for every head of the layers of all entries at once, with a batch of each thread for each device.
template <class F>
void side_by_side(const Model& model, const std::vector<int>& layers, size_t heads, F&& f) {
  std::atomic<bool> failed{false};
  std::exception_ptr first;
  Team team(model.threads);
  const size_t stages = model.stages.size();
  std::vector<std::unique_ptr<PageWork>> batches(static_cast<size_t>(team.size()) * stages);  // of a thread for a stage
  team.each(static_cast<int>(layers.size() * heads), [&](int i, int worker) {
    const size_t entry = static_cast<size_t>(i) / heads;
    size_t stage = 0;
    while (stage + 1 < stages && layers[entry] >= model.stages[stage].to) stage++;
    try {
      std::unique_ptr<PageWork>& batch = batches[static_cast<size_t>(worker) * stages + stage];
      if (!batch) batch = std::make_unique<PageWork>(model.stages[stage].device, model.config.head_size);
      f(entry, static_cast<size_t>(i) % heads, *batch);
    } catch (...) {
      if (!failed.exchange(true)) first = std::current_exception();
    }
  });
  if (first) std::rethrow_exception(first);
}

}  // namespace

void Session::evict(const std::vector<Eviction>& layers) {
  const size_t heads = static_cast<size_t>(cache_->shape().kv_heads);
  std::vector<std::vector<int32_t>> index;  // of all heads of all layers; empty where rows are set aside or come back
  std::vector<Fold> folds;  // the same; empty where nothing folds
  for (const Eviction& e : layers) {
    if (e.kept.size() != heads || (!e.stored.empty() && e.stored.size() != heads))
      throw Error(Code::plan, "[plan] expected kept rows for each of " + std::to_string(heads) + " KV heads, got " +
                                  std::to_string(e.kept.size()));
    if (!e.folds.heads.empty() && e.folds.heads.size() != heads)
      throw Error(Code::plan, "[plan] expected folds for every KV head or for none");
    if (!e.folds.heads.empty()) need_no_coarse(*cache_, e.layer);
    for (size_t h = 0; h < e.folds.heads.size(); h++)
      folds.push_back(located(e.folds.heads[h], cache_->head(e.layer, static_cast<int>(h)).source.all(), e.kept[h]));
    folds.resize(index.size() + heads);
    for (size_t h = 0; h < heads; h++) {
      const HeadRows& held = cache_->head(e.layer, static_cast<int>(h));
      index.push_back(e.stored.empty() ? rows_kept(held, e.kept[h]) : std::vector<int32_t>());
    }
    if (!e.stored.empty()) cache_->open_store();
  }
  evicted_ = true;
  std::vector<int> of;
  for (const Eviction& e : layers) of.push_back(e.layer);
  side_by_side(*model_, of, heads, [&](size_t entry, size_t head, PageWork& batch) {
    const size_t i = entry * heads + head;
    evict_head(layers[entry], static_cast<int>(head), index[i], folds[i], batch);
  });
}

// ---- coarse rows ------------------------------------------------------------------------------------------------

void Session::coarsen(const std::vector<Coarsening>& layers) {
  const size_t heads = static_cast<size_t>(cache_->shape().kv_heads);
  std::vector<int> of;
  for (const Coarsening& c : layers) {
    if (c.sources.size() != heads)
      throw Error(Code::plan, "[plan] expected coarse rows for each of " + std::to_string(heads) + " KV heads, got " +
                                  std::to_string(c.sources.size()));
    for (const std::vector<int32_t>& sources : c.sources) {
      if (std::adjacent_find(sources.begin(), sources.end(), std::greater_equal<>()) != sources.end())
        throw Error(Code::plan, "[plan] expected ascending rows that become coarse");
    }
    if (options_.repack || model_->layers[static_cast<size_t>(c.layer)].window > 0 ||
        rule(c.layer).kind != Rule::Kind::none)
      throw Error(Code::unsupported,
                  "[cache] expected a layer without a window or a standing rule, and keys at their own "
                  "positions, for coarse rows, layer " +
                      std::to_string(c.layer) + " is none");
    of.push_back(c.layer);
  }
  evicted_ = true;  // memory is given back
  side_by_side(*model_, of, heads, [&](size_t entry, size_t head, PageWork& batch) {
    const Coarsening& c = layers[entry];
    cache_->coarsen(c.layer, static_cast<int>(head), c.sources[head], &batch);
  });
}

void need_no_coarse(const KvCache& cache, int layer) {
  for (int h = 0; h < cache.shape().kv_heads; h++) {
    if (cache.coarse_rows(layer, h) == 0) continue;
    throw Error(Code::unsupported,
                "[cache] expected rows of one precision in a layer where rows fold or a standing rule "
                "evicts, layer " +
                    std::to_string(layer) + " holds coarse ones");
  }
}

void Session::set_rule(int layer, const Rule& rule) {
  if (rule.kind != Rule::Kind::none) need_no_coarse(*cache_, layer);
  rules_[static_cast<size_t>(layer)] = rule;
}

}  // namespace tokensieve
