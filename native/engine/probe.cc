// Looks into a layer that has not run: its own norm and projections of the rows as they stand. Nothing of the session changes.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "engine/block.h"

namespace tokensieve {

// Keys of all rows of the call are appended to a copy of the cache that shares its pages; queries of the looked rows are kept.
Stage::Probed Stage::project(Session& s, int layer, const std::vector<int32_t>& looked, Team& team) {
  Probed probed;
  probed.cache = s.cache().clone();
  project_keys(s, layer, *probed.cache, team);
  const size_t q_width = static_cast<size_t>(model_->config.heads * model_->config.head_size);
  probed.q = numbers(looked.size() * q_width);
  for (size_t i = 0; i < looked.size(); i++) project_query(s, layer, looked[i], probed.q.data() + i * q_width, team);
  return probed;
}

// x W for some outputs of q, k, v: rows of the call, normed as the layer norms them.
void Stage::project_part(Session& s, int layer, const Linear& part, int begin, int count, float* out, Team& team) {
  const Config& c = model_->config;
  const size_t d = static_cast<size_t>(c.hidden);
  const Device& device = model_->device(layer);
  Numbers<float> x = numbers(static_cast<size_t>(count) * d);
  const float* rows = s.rows().hidden.as<float>() + static_cast<size_t>(begin) * d;
  device.backend->rms_norm(rows, d, count, 1, c.hidden, model_->layers[static_cast<size_t>(layer)].attention_norm,
                           c.norm_eps, nullptr, x.data(), d, team);
  apply(device, part, x.data(), d, count, c.hidden, false, out, static_cast<size_t>(part.rows), team);
  device.wait();
}

void Stage::project_keys(Session& s, int layer, KvCache& cache, Team& team) {
  const Config& c = model_->config;
  const Layer& l = model_->layers[static_cast<size_t>(layer)];
  const Rows& rows = s.rows();
  const int n = static_cast<int>(rows.source.size()), q_width = c.heads * c.head_size, width = c.kv_heads * c.head_size;
  const size_t ld = static_cast<size_t>(width);
  const Device& device = model_->device(layer);
  const Linear part = slice(*device.backend, l.qkv, q_width, q_width + width, c.hidden);
  Numbers<float> k = numbers(static_cast<size_t>(kStageRows) * ld), zero = numbers(k.size());
  cache.reserve(layer, n, !rows.size.empty());
  for (int begin = 0; begin < n; begin += kStageRows) {
    const int count = std::min(kStageRows, n - begin);
    project_part(s, layer, part, begin, count, k.data(), team);
    if (l.k_norm) {
      device.backend->rms_norm(k.data(), ld, count, c.kv_heads, c.head_size, l.k_norm, c.norm_eps, nullptr, k.data(),
                               ld, team);
    }
    if (!s.options().repack) {
      std::vector<int32_t> position;
      for (int i = begin; i < begin + count; i++) {
        position.push_back(s.next_position(layer) + rows.offset[static_cast<size_t>(i)]);
      }
      const Angles& a = angles(l.rotary, position, s.length(layer));
      device.backend->rope(k.data(), ld, count, c.kv_heads, c.head_size,
                           model_->rotaries[static_cast<size_t>(l.rotary)].rotated, a.cos.data(), a.sin.data(), team);
    }
    s.hadamard(&HeadKv::hadamard_keys, layer, k.data(), ld, count, 1, team);
    cache.append(*device.backend, layer, k.data(), ld, zero.data(), ld, count, rows.source.data() + begin,
                 rows.size.empty() ? nullptr : rows.size.data() + begin, team);
    device.wait();  // k is written anew
  }
}

// One row of the call: -> q [heads * head_size].
void Stage::project_query(Session& s, int layer, int row, float* q, Team& team) {
  const Config& c = model_->config;
  const Layer& l = model_->layers[static_cast<size_t>(layer)];
  const int width = c.heads * c.head_size, group = c.heads / c.kv_heads;
  const size_t ld = static_cast<size_t>(width);
  const kernels::Backend& backend = *model_->device(layer).backend;
  project_part(s, layer, slice(backend, l.qkv, 0, width, c.hidden), row, 1, q, team);
  if (l.q_norm) {
    backend.rms_norm(q, ld, 1, c.heads, c.head_size, l.q_norm, c.norm_eps, nullptr, q, ld, team);
  }
  for (int h = 0; h < c.kv_heads; h++) {
    const int position = s.options().repack ? s.cache().rows(layer, h) + row
                                            : s.next_position(layer) + s.rows().offset[static_cast<size_t>(row)];
    const Angles& a = angles(l.rotary, {position}, s.length(layer));
    backend.rope(q + h * group * c.head_size, ld, 1, group, c.head_size,
                 model_->rotaries[static_cast<size_t>(l.rotary)].rotated, a.cos.data(), a.sin.data(), team);
  }
  s.hadamard(&HeadKv::hadamard_keys, layer, q, ld, 1, group, team);
}

std::vector<float> Stage::probe_rows(Session& s, int layer, const std::vector<int32_t>& looked) {
  const Config& c = model_->config;
  const Device& device = model_->device(layer);
  Team team(model_->threads, &s.stop(), device.queue.get());
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
    Numbers<float> lines = numbers(heads * stride);
    scratch_.need(device.backend->attention_probe_scratch(shape, job, team.size()));
    device.backend->attention_probe(shape, job, true, lines.data(), stride, scratch_.data(), team);
    device.wait();
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
  const int n = static_cast<int>(s.rows().source.size()), q_width = c.heads * c.head_size,
            width = c.kv_heads * c.head_size;
  const size_t ld = static_cast<size_t>(width), size = static_cast<size_t>(c.head_size);
  const Device& device = model_->device(layer);
  Team team(model_->threads, &s.stop(), device.queue.get());
  const Linear part = slice(*device.backend, l.qkv, q_width, q_width + width, c.hidden);
  Numbers<float> k = numbers(static_cast<size_t>(kStageRows) * ld);
  std::vector<float> mean(static_cast<size_t>(n) * size);
  for (int begin = 0; begin < n; begin += kStageRows) {
    const int count = std::min(kStageRows, n - begin);
    project_part(s, layer, part, begin, count, k.data(), team);
    if (l.k_norm) {
      device.backend->rms_norm(k.data(), ld, count, c.kv_heads, c.head_size, l.k_norm, c.norm_eps, nullptr, k.data(),
                               ld, team);
    }
    device.wait();
    const float share = 1 / static_cast<float>(c.kv_heads);
    for (int i = 0; i < count; i++) {
      float* sum = mean.data() + static_cast<size_t>(begin + i) * size;
      const float* head = k.data() + static_cast<size_t>(i) * ld;
      for (int h = 0; h < c.kv_heads; h++, head += size) {
        for (size_t j = 0; j < size; j++) sum[j] += head[j] * share;
      }
    }
  }
  if (team.stopped()) throw Error(Code::aborted, "[probe] the call was stopped");
  return mean;
}

Stage::Partners Stage::probe_partners(Session& s, int layer, const std::vector<int32_t>& places) {
  const std::vector<float> keys = probe_keys(s, layer);
  std::vector<int32_t> even, odd;
  for (size_t i = 0; i < places.size(); i++) (i % 2 == 0 ? even : odd).push_back(places[i]);
  const float* const side = keys.data();
  return find_partners(s, {&side, 1}, even, odd);
}

Stage::Partners Stage::match(Session& s, int layer, int head, const Match& wanted) {
  const std::vector<int32_t>& source = s.cache().head(layer, head).source;
  const auto rows = [&](std::vector<int32_t> tokens) {
    for (int32_t& token : tokens) {
      const auto at = std::lower_bound(source.begin(), source.end(), token);
      if (at == source.end() || *at != token)
        throw Error(Code::plan, "[plan] expected rows of layer " + std::to_string(layer) + " head " +
                                    std::to_string(head) + ", token " + std::to_string(token) + " has none");
      token = static_cast<int32_t>(at - source.begin());
    }
    return tokens;
  };
  if (wanted.from.empty() || wanted.into.empty()) return {};
  const size_t count = source.size() * static_cast<size_t>(model_->config.head_size);
  std::vector<float> sides[2] = {std::vector<float>(count), std::vector<float>(count)};
  s.read(kernels::Side::keys, layer, head, sides[0].data());
  s.read(kernels::Side::values, layer, head, sides[1].data());
  const float* const both[] = {sides[0].data(), sides[1].data()};
  return find_partners(s, {both, 2}, rows(wanted.from), rows(wanted.into));
}

Stage::Partners Stage::find_partners(Session& s, Sides sides, const std::vector<int32_t>& a,
                                     const std::vector<int32_t>& b) {
  kernels::PartnersJob job{};
  job.sides = sides.count;
  for (int i = 0; i < sides.count; i++) job.x[i] = sides.rows[i];
  job.d = model_->config.head_size, job.ldx = static_cast<size_t>(job.d);
  job.a = a.data(), job.rows = static_cast<int>(a.size());
  job.b = b.data(), job.columns = static_cast<int>(b.size());
  Team team(model_->threads, &s.stop());
  const kernels::Backend* const host = model_->backend;
  Partners found{std::vector<int32_t>(a.size()), std::vector<float>(a.size())};
  scratch_.need(host->partners_scratch(job, team.size()));
  host->partners(job, found.partner.data(), found.similarity.data(), scratch_.data(), team);
  if (team.stopped()) throw Error(Code::aborted, "[probe] the call was stopped");
  return found;
}

}  // namespace tokensieve
