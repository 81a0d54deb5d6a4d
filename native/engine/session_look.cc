// What methods look at while a call runs, kept with the session until it ends.
#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/session.h"

namespace tokensieve {

bool Session::sums_attention(int layer) const {
  const Look* asked = look(layer);
  const Rule& standing = rule(layer);
  return (asked != nullptr && asked->column_sums) || standing.kind == Rule::Kind::mass ||
         (standing.kind == Rule::Kind::window && standing.max_dropped < 1);
}

bool Session::sums_attention(int layer, int kv_head) const {
  const Look* asked = look(layer);
  if (!sums_attention(layer)) return false;
  if (asked == nullptr || rule(layer).kind != Rule::Kind::none) return true;
  return std::find(asked->unsummed.begin(), asked->unsummed.end(), kv_head) == asked->unsummed.end();
}

const Look* Session::look(int layer) const {
  for (const Observed& o : observed_) {
    if (o.look.layer == layer) return &o.look;
  }
  return nullptr;
}

std::vector<QueryStats>& Session::query_stats(int layer) {
  const Config& c = model_->config;
  const auto asked =
      std::find_if(observed_.begin(), observed_.end(), [&](const Observed& o) { return o.look.layer == layer; });
  if (asked->queries.empty()) asked->queries.assign(static_cast<size_t>(c.heads), QueryStats(c.head_size));
  return asked->queries;
}

void Session::expect(int layer, int kv_head, std::vector<float> rows) {
  for (Observed& o : observed_) {
    if (o.look.layer != layer) continue;
    o.expected.resize(static_cast<size_t>(model_->config.kv_heads));
    o.expected[static_cast<size_t>(kv_head)] = std::move(rows);
  }
}

std::vector<float> Session::expected(int layer, int kv_head) const {
  for (const Observed& o : observed_) {
    if (o.look.layer == layer && !o.expected.empty()) return o.expected[static_cast<size_t>(kv_head)];
  }
  return {};
}

namespace {

float norm_of(const float* x, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += static_cast<double>(x[i]) * x[i];
  return static_cast<float>(std::sqrt(sum));
}

}  // namespace

void Session::watch_keys(int layer, const float* k, size_t ldk, int n) {
  const int heads = model_->config.kv_heads, size = model_->config.head_size;
  for (Observed& o : observed_) {
    if (o.look.layer != layer || !o.look.key_norms) continue;
    o.norms.resize(static_cast<size_t>(heads));
    for (int h = 0; h < heads; h++) {
      for (int row = 0; row < n; row++)
        o.norms[static_cast<size_t>(h)].push_back(norm_of(k + static_cast<size_t>(row) * ldk + h * size, size));
    }
  }
}

std::vector<float> Session::key_norms(int layer, int kv_head) const {
  const int size = model_->config.head_size, rows = cache_->rows(layer, kv_head);
  std::vector<float> keys(static_cast<size_t>(rows) * static_cast<size_t>(size)), norms;
  read(kernels::Side::keys, layer, kv_head, keys.data());
  for (int row = 0; row < rows; row++) norms.push_back(norm_of(keys.data() + row * size, size));
  for (const Observed& o : observed_) {
    if (o.look.layer != layer || o.norms.empty()) continue;
    const std::vector<float>& watched = o.norms[static_cast<size_t>(kv_head)];
    // Rows of the call came in this order, behind all others.
    const int first = cache_->head(layer, kv_head).up_to(tokens_ - 1);
    if (static_cast<size_t>(rows - first) == watched.size())
      std::copy(watched.begin(), watched.end(), norms.begin() + first);
  }
  return norms;
}

float* Session::look_buffer(int layer, size_t* stride) {
  const Config& c = model_->config;
  for (Observed& o : observed_) {
    if (o.look.layer != layer) continue;
    if (o.sums.empty()) {  // the call's rows are not in the cache yet: room for all of them
      int most = 0;
      for (int h = 0; h < c.kv_heads; h++) most = std::max(most, cache_->rows(layer, h));
      o.stride = (static_cast<size_t>(most) + rows_.source.size() + 15) / 16 * 16;
      o.sums.assign(o.stride * static_cast<size_t>(c.heads), 0.f);
    }
    *stride = o.stride;
    return o.sums.data();
  }
  return nullptr;
}

std::vector<float> Session::attention(int layer, int kv_head) const {
  const Config& c = model_->config;
  const int group = c.heads / c.kv_heads;
  for (const Observed& o : observed_) {
    if (o.look.layer != layer || o.sums.empty()) continue;
    std::vector<float> mean(static_cast<size_t>(cache_->rows(layer, kv_head)));
    for (int g = 0; g < group; g++) {
      const float* line = o.sums.data() + static_cast<size_t>(kv_head * group + g) * o.stride;
      for (size_t j = 0; j < mean.size() && j < o.stride; j++) mean[j] += line[j] / static_cast<float>(group);
    }
    return in_order(layer, kv_head, std::move(mean), 1);
  }
  return {};
}

// Values of a head's rows, `width` each, by their sources.
std::vector<float> Session::in_order(int layer, int kv_head, std::vector<float> values, size_t width) const {
  const std::vector<int32_t> order = cache_->head(layer, kv_head).order();
  if (order.empty() || values.empty()) return values;
  std::vector<float> sorted(values.size());
  for (size_t i = 0; i < order.size(); i++)
    std::copy_n(values.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(order[i]) * width), width,
                sorted.begin() + static_cast<ptrdiff_t>(i * width));
  return sorted;
}

std::vector<float> Session::mass(int layer, int kv_head) const {
  return in_order(layer, kv_head, cache_->head(layer, kv_head).mass, 1);
}

std::vector<int32_t> Session::sources(int layer, int kv_head) const {
  const HeadRows& held = cache_->head(layer, kv_head);
  std::vector<int32_t> sources = held.all();
  if (!held.coarse.empty()) std::sort(sources.begin(), sources.end());
  return sources;
}

}  // namespace tokensieve
