// Looks into a layer that has not run: its own norm and projections of the rows as they stand. Nothing of the session changes.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "engine/block.h"

namespace tokensieve {

// Keys of all rows of the call are appended to a copy of the cache that shares its pages; queries of the looked rows are kept.
Stage::Probed Stage::project(Session& s, int layer, const std::vector<int32_t>& looked, Team& team) {
  const Config& c = model_->config;
  const Layer& l = model_->layers[static_cast<size_t>(layer)];
  const Rows& rows = s.rows();
  const int n = static_cast<int>(rows.source.size()), q_width = c.heads * c.head_size,
            kv_width = c.kv_heads * c.head_size;
  const int rotated = model_->rotaries[static_cast<size_t>(l.rotary)].rotated;
  const size_t d = static_cast<size_t>(c.hidden);
  const Linear q_part = slice(*model_, l.qkv, 0, q_width, c.hidden),
               k_part = slice(*model_, l.qkv, q_width, q_width + kv_width, c.hidden);
  Probed probed;
  probed.cache = s.cache().clone();
  probed.cache->reserve(layer, n, !rows.size.empty());
  probed.q.resize(looked.size() * static_cast<size_t>(q_width));
  const bool late = s.options().repack;
  std::vector<float> x(static_cast<size_t>(kStageRows) * d), k(static_cast<size_t>(kStageRows * kv_width)),
      zero(k.size());
  std::vector<int> slot;
  for (int h = 0; h < c.kv_heads; h++) slot.push_back(s.cache().rows(layer, h));

  auto norm = [&](const float* row, int count) {
    model_->backend->rms_norm(row, d, count, 1, c.hidden, l.attention_norm, c.norm_eps, nullptr, x.data(), d, team);
  };
  for (int begin = 0; begin < n; begin += kStageRows) {
    const int count = std::min(kStageRows, n - begin);
    const size_t ld = static_cast<size_t>(kv_width);
    norm(s.rows().hidden.as<float>() + static_cast<size_t>(begin) * d, count);
    apply(k_part, x.data(), d, count, c.hidden, false, k.data(), ld, team);
    if (l.k_norm)
      model_->backend->rms_norm(k.data(), ld, count, c.kv_heads, c.head_size, l.k_norm, c.norm_eps, nullptr, k.data(),
                                ld, team);
    if (!late) {
      std::vector<int32_t> position(static_cast<size_t>(count));
      for (int i = 0; i < count; i++)
        position[static_cast<size_t>(i)] = s.next_position(layer) + rows.offset[static_cast<size_t>(begin + i)];
      const Angles& a = angles(l.rotary, position, s.length(layer));
      model_->backend->rope(k.data(), ld, count, c.kv_heads, c.head_size, rotated, a.cos.data(), a.sin.data(), team);
    }
    probed.cache->append(layer, k.data(), ld, zero.data(), ld, count, rows.source.data() + begin,
                         rows.size.empty() ? nullptr : rows.size.data() + begin, team);
  }
  for (size_t i = 0; i < looked.size(); i++) {  // few rows: one at a time
    float* q = probed.q.data() + i * static_cast<size_t>(q_width);
    norm(s.rows().hidden.as<float>() + static_cast<size_t>(looked[i]) * d, 1);
    apply(q_part, x.data(), d, 1, c.hidden, false, q, static_cast<size_t>(q_width), team);
    if (l.q_norm)
      model_->backend->rms_norm(q, static_cast<size_t>(q_width), 1, c.heads, c.head_size, l.q_norm, c.norm_eps, nullptr,
                                q, static_cast<size_t>(q_width), team);
    for (int h = 0; h < c.kv_heads; h++) {
      const int group = c.heads / c.kv_heads;
      const int position = late ? slot[static_cast<size_t>(h)] + looked[i]
                                : s.next_position(layer) + rows.offset[static_cast<size_t>(looked[i])];
      const Angles& a = angles(l.rotary, {position}, s.length(layer));
      model_->backend->rope(q + h * group * c.head_size, static_cast<size_t>(q_width), 1, group, c.head_size, rotated,
                            a.cos.data(), a.sin.data(), team);
    }
  }
  return probed;
}

std::vector<float> Stage::probe_rows(Session& s, int layer, const std::vector<int32_t>& looked) {
  const Config& c = model_->config;
  Team team(model_->threads, &s.stop());
  Probed probed = project(s, layer, looked, team);
  std::vector<int32_t> source;
  for (int32_t row : looked) source.push_back(s.rows().source[static_cast<size_t>(row)]);
  const size_t total = static_cast<size_t>(s.tokens() + s.call_tokens()), heads = static_cast<size_t>(c.heads),
               q_width = heads * static_cast<size_t>(c.head_size);
  std::vector<float> out(looked.size() * heads * total);
  LayerViews views;
  for (size_t i = 0; i < looked.size() && !team.stopped(); i++) {
    views.build(s, *probed.cache, layer, &source[i], 1);
    kernels::AttentionShape shape = attention_shape(*model_);
    size_t stride = 0;
    for (const kernels::View& v : views.views) stride = std::max(stride, static_cast<size_t>(v.rows));
    if (s.options().repack) late(layer, static_cast<int>(stride), &shape);
    kernels::AttentionJob job;
    job.q = probed.q.data() + i * q_width, job.ldq = q_width, job.n = 1, job.views = views.views.data();
    std::vector<float> lines(heads * stride);
    scratch_.need(model_->backend->attention_probe_scratch(shape, job, team.size()));
    model_->backend->attention_probe(shape, job, true, lines.data(), stride, scratch_.data(), team);
    for (size_t h = 0; h < heads; h++) {
      const std::vector<int32_t>& at = probed.cache->head(layer, static_cast<int>(h) / (c.heads / c.kv_heads)).source;
      for (size_t j = 0; j < at.size(); j++)
        out[(i * heads + h) * total + static_cast<size_t>(at[j])] = lines[h * stride + j];
    }
  }
  if (team.stopped()) throw Error(Code::aborted, "[probe] the call was stopped");
  return out;
}

std::vector<float> Stage::probe(Session& s, int layer, int rows) {
  const std::vector<int32_t>& source = s.rows().source;
  const int n = static_cast<int>(source.size());
  std::vector<int32_t> looked;
  for (int i = std::max(0, n - rows); i < n; i++) looked.push_back(i);
  const std::vector<float> lines = probe_rows(s, layer, looked);
  const size_t heads = static_cast<size_t>(model_->config.heads),
               total = static_cast<size_t>(s.tokens() + s.call_tokens());
  std::vector<float> mean(source.size());
  for (size_t line = 0; line < lines.size() / total; line++) {
    for (size_t j = 0; j < source.size(); j++)
      mean[j] += lines[line * total + static_cast<size_t>(source[j])] / static_cast<float>(heads);
  }
  return mean;
}

std::vector<float> Stage::probe_keys(Session& s, int layer) {
  const Config& c = model_->config;
  const Layer& l = model_->layers[static_cast<size_t>(layer)];
  const int n = static_cast<int>(s.rows().source.size()), kv_width = c.kv_heads * c.head_size;
  const size_t d = static_cast<size_t>(c.hidden), size = static_cast<size_t>(c.head_size);
  Team team(model_->threads, &s.stop());
  const Linear k_part = slice(*model_, l.qkv, c.heads * c.head_size, c.heads * c.head_size + kv_width, c.hidden);
  std::vector<float> x(static_cast<size_t>(kStageRows) * d), k(static_cast<size_t>(kStageRows * kv_width)),
      mean(static_cast<size_t>(n) * size);
  for (int begin = 0; begin < n; begin += kStageRows) {
    const int count = std::min(kStageRows, n - begin);
    const size_t ld = static_cast<size_t>(kv_width);
    model_->backend->rms_norm(s.rows().hidden.as<float>() + static_cast<size_t>(begin) * d, d, count, 1, c.hidden,
                              l.attention_norm, c.norm_eps, nullptr, x.data(), d, team);
    apply(k_part, x.data(), d, count, c.hidden, false, k.data(), ld, team);
    if (l.k_norm)
      model_->backend->rms_norm(k.data(), ld, count, c.kv_heads, c.head_size, l.k_norm, c.norm_eps, nullptr, k.data(),
                                ld, team);
    for (int i = 0; i < count; i++) {
      for (size_t j = 0; j < ld; j++)
        mean[static_cast<size_t>(begin + i) * size + j % size] +=
            k[static_cast<size_t>(i) * ld + j] / static_cast<float>(c.kv_heads);
    }
  }
  if (team.stopped()) throw Error(Code::aborted, "[probe] the call was stopped");
  return mean;
}

}  // namespace tokensieve
