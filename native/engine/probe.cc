// Looks into a layer that has not run: its own norm and projections of the rows as they stand. Nothing of the session changes.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "engine/block.h"

namespace tokensieve {

// Some outputs of x W, q, k and v together, for rows x of the hidden size as they enter the layer.
void Stage::project_part(int layer, const Linear& part, Arithmetic arithmetic, const float* x, int count, float* out,
                         Team& team) {
  const Config& c = model_->config;
  const size_t d = static_cast<size_t>(c.hidden);
  const Device& device = model_->device(layer);
  normed_.need(static_cast<size_t>(count) * d * sizeof(float));
  const Norm norm{model_->layers[static_cast<size_t>(layer)].attention_norm, c.norm_eps, normed_.as<float>()};
  apply(device, part, arithmetic, {x, d, count, c.hidden, &norm}, false, out, static_cast<size_t>(part.rows), team);
}

// Un-rotated keys of rows [begin, begin + count) of the call: -> k [count][kv_heads * head_size].
void Stage::project_keys(Session& s, int layer, int begin, int count, float* k, Team& team) {
  const Config& c = model_->config;
  const Layer& l = model_->layers[static_cast<size_t>(layer)];
  const int q_width = c.heads * c.head_size, width = c.kv_heads * c.head_size;
  const size_t d = static_cast<size_t>(c.hidden), ld = static_cast<size_t>(width);
  const kernels::Backend& backend = *model_->device(layer).backend;
  const float* const x = s.rows().hidden.as<float>() + static_cast<size_t>(begin) * d;
  project_part(layer, slice(backend, l.qkv, q_width, q_width + width, c.hidden), s.arithmetic(), x, count, k, team);
  if (l.k_norm) backend.rms_norm(k, ld, count, c.kv_heads, c.head_size, l.k_norm, c.norm_eps, nullptr, k, ld, team);
}

// Of rows of the call, in these places: -> q [count][heads * head_size], rotated.
void Stage::project_queries(Session& s, int layer, const int32_t* places, int count, float* q, Team& team) {
  const Config& c = model_->config;
  const Layer& l = model_->layers[static_cast<size_t>(layer)];
  const Rotary& r = model_->rotaries[static_cast<size_t>(l.rotary)];
  const int width = c.heads * c.head_size, group = c.heads / c.kv_heads;
  const size_t d = static_cast<size_t>(c.hidden), ld = static_cast<size_t>(width);
  const kernels::Backend& backend = *model_->device(layer).backend;
  Numbers<float> x = numbers(static_cast<size_t>(count) * d);
  for (int i = 0; i < count; i++)
    std::memcpy(x.data() + static_cast<size_t>(i) * d, s.rows().hidden.as<float>() + static_cast<size_t>(places[i]) * d,
                d * sizeof(float));
  project_part(layer, slice(backend, l.qkv, 0, width, c.hidden), s.arithmetic(), x.data(), count, q, team);
  model_->device(layer).wait();  // x goes
  if (l.q_norm) backend.rms_norm(q, ld, count, c.heads, c.head_size, l.q_norm, c.norm_eps, nullptr, q, ld, team);
  std::vector<int32_t> position(static_cast<size_t>(count));
  for (int h = 0; h < c.kv_heads; h++) {
    for (size_t i = 0; i < position.size(); i++)
      position[i] = s.options().repack ? s.cache().rows(layer, h) + places[i]
                                       : s.next_position(layer) + s.rows().offset[static_cast<size_t>(places[i])];
    const Angles& a = angles(model_->device(layer), l.rotary, position, s.length(layer));
    backend.rope(q + h * group * c.head_size, ld, count, group, c.head_size, r.rotated, a.cos.data(), a.sin.data(),
                 team);
  }
  s.hadamard(&HeadKv::hadamard_keys, layer, q, ld, count, group, team);
}

// Keys of all rows of the call, as the layer would cache them, behind what `cache` holds.
void Stage::append_keys(Session& s, int layer, KvCache& cache, Team& team) {
  const Config& c = model_->config;
  const Rotary& r = model_->rotaries[static_cast<size_t>(model_->layers[static_cast<size_t>(layer)].rotary)];
  const Rows& rows = s.rows();
  const int n = static_cast<int>(rows.source.size());
  const size_t ld = static_cast<size_t>(c.kv_heads * c.head_size);
  const Device& device = model_->device(layer);
  qkv_.need(static_cast<size_t>(std::min(n, kStageRows)) * ld * sizeof(float));
  float* const k = qkv_.as<float>();
  cache.reserve(layer, n, !rows.size.empty(), runs_in(rows.source.data(), n));
  for (int begin = 0; begin < n; begin += kStageRows) {
    const int count = std::min(kStageRows, n - begin);
    project_keys(s, layer, begin, count, k, team);
    if (!s.options().repack) {
      std::vector<int32_t> position;
      for (int i = begin; i < begin + count; i++)
        position.push_back(s.next_position(layer) + rows.offset[static_cast<size_t>(i)]);
      const Angles& a = angles(device, model_->layers[static_cast<size_t>(layer)].rotary, position, s.length(layer));
      device.backend->rope(k, ld, count, c.kv_heads, c.head_size, r.rotated, a.cos.data(), a.sin.data(), team);
    }
    s.hadamard(&HeadKv::hadamard_keys, layer, k, ld, count, 1, team);
    cache.append(*device.backend, layer, k, ld, nullptr, 0, count, rows.source.data() + begin,
                 rows.size.empty() ? nullptr : rows.size.data() + begin, team);
    device.wait();  // k is written anew
  }
}

// What the rows in these places would ask, and a copy of the cache, with which it shares its pages, that holds the call's keys.
Stage::Probed Stage::project(Session& s, int layer, const std::vector<int32_t>& looked, Team& team) {
  Probed probed;
  probed.cache = s.cache().clone();
  append_keys(s, layer, *probed.cache, team);
  const size_t width = static_cast<size_t>(model_->config.heads * model_->config.head_size);
  probed.q = numbers(looked.size() * width);
  for (int32_t place : looked) probed.source.push_back(s.rows().source[static_cast<size_t>(place)]);
  for (size_t begin = 0; begin < looked.size(); begin += kStageRows) {
    const size_t count = std::min(static_cast<size_t>(kStageRows), looked.size() - begin);
    project_queries(s, layer, looked.data() + begin, static_cast<int>(count), probed.q.data() + begin * width, team);
  }
  return probed;
}

namespace {

// Rows that look at once: what they are given is held, heads lines of `rows` numbers for each.
size_t at_once(int heads, size_t rows) {
  constexpr size_t kNumbers = size_t{1} << 22;
  return std::max<size_t>(1, kNumbers / (static_cast<size_t>(heads) * std::max<size_t>(1, rows)));
}

}  // namespace

// Looked rows [begin, begin + count): their probabilities a row and head, or summed over them a head.
Stage::Lines Stage::look_through(Session& s, int layer, const Probed& probed, size_t begin, size_t count, bool per_row,
                                 Team& team) {
  const Config& c = model_->config;
  const int n = static_cast<int>(count);
  const Device& device = model_->device(layer);
  LayerViews views;
  views.build(s, *probed.cache, layer, probed.source.data() + begin, n);
  Lines lines;
  for (const kernels::View& v : views.views) lines.stride = std::max(lines.stride, static_cast<size_t>(v.rows));
  kernels::AttentionShape shape = attention_shape(*model_);
  if (s.options().repack) late(layer, static_cast<int>(lines.stride), &shape);
  kernels::AttentionJob job;
  job.ldq = static_cast<size_t>(c.heads * c.head_size), job.q = probed.q.data() + begin * job.ldq, job.n = n;
  job.views = views.views.data();
  lines.values = numbers((per_row ? count : 1) * static_cast<size_t>(c.heads) * lines.stride);
  scratch_.need(device.backend->attention_probe_scratch(shape, job, team.size()));
  device.backend->attention_probe(shape, job, per_row, lines.values.data(), lines.stride, scratch_.data(), team);
  device.wait();
  if (team.stopped()) throw Error(Code::aborted, "[probe] the call was stopped");
  return lines;
}

std::vector<float> Stage::probe_rows(Session& s, int layer, const std::vector<int32_t>& looked) {
  const Config& c = model_->config;
  Team team(model_->threads, &s.stop(), model_->device(layer).queue.get());
  const Probed probed = project(s, layer, looked, team);
  const size_t total = static_cast<size_t>(s.tokens() + s.call_tokens()), heads = static_cast<size_t>(c.heads),
               step = at_once(c.heads, total);
  std::vector<float> out(looked.size() * heads * total);
  std::vector<std::vector<int32_t>> sources;  // of each KV head
  for (int h = 0; h < c.kv_heads; h++) sources.push_back(probed.cache->head(layer, h).all());
  for (size_t begin = 0; begin < looked.size(); begin += step) {
    const size_t count = std::min(step, looked.size() - begin);
    const Lines lines = look_through(s, layer, probed, begin, count, true, team);
    for (size_t line = 0; line < count * heads; line++) {
      const int h = static_cast<int>(line % heads) / (c.heads / c.kv_heads);
      const std::vector<int32_t>& at = sources[static_cast<size_t>(h)];
      float* to = out.data() + (begin * heads + line) * total;
      for (size_t j = 0; j < at.size(); j++) to[at[j]] = lines.values[line * lines.stride + j];
    }
  }
  return out;
}

// The rows of the call are the newest of every head.
void Stage::add_mean(const Probed& probed, int layer, const float* line, size_t stride, float* mean, size_t rows) {
  const Config& c = model_->config;
  for (int h = 0; h < c.heads; h++, line += stride) {
    const size_t held = probed.cache->head(layer, h / (c.heads / c.kv_heads)).rows();
    for (size_t j = 0; j < rows; j++) mean[j] += line[held - rows + j] / static_cast<float>(c.heads);
  }
}

std::vector<float> Stage::probe_means(Session& s, int layer, const std::vector<int32_t>& looked) {
  Team team(model_->threads, &s.stop(), model_->device(layer).queue.get());
  const Probed probed = project(s, layer, looked, team);
  const size_t n = s.rows().source.size(), heads = static_cast<size_t>(model_->config.heads),
               step = at_once(model_->config.heads, static_cast<size_t>(s.tokens()) + n);
  std::vector<float> means(looked.size() * n);
  for (size_t begin = 0; begin < looked.size(); begin += step) {
    const size_t count = std::min(step, looked.size() - begin);
    const Lines lines = look_through(s, layer, probed, begin, count, true, team);
    for (size_t i = 0; i < count; i++)
      add_mean(probed, layer, lines.values.data() + i * heads * lines.stride, lines.stride,
               means.data() + (begin + i) * n, n);
  }
  return means;
}

std::vector<float> Stage::probe(Session& s, int layer, int rows) {
  const int n = static_cast<int>(s.rows().source.size());
  std::vector<int32_t> looked;
  for (int i = std::max(0, n - rows); i < n; i++) looked.push_back(i);
  Team team(model_->threads, &s.stop(), model_->device(layer).queue.get());
  const Probed probed = project(s, layer, looked, team);
  const Lines lines = look_through(s, layer, probed, 0, looked.size(), false, team);
  std::vector<float> mean(static_cast<size_t>(n));
  add_mean(probed, layer, lines.values.data(), lines.stride, mean.data(), mean.size());
  return mean;
}

std::vector<float> Stage::probe_keys(Session& s, int layer) {
  const Config& c = model_->config;
  const int n = static_cast<int>(s.rows().source.size());
  const size_t ld = static_cast<size_t>(c.kv_heads * c.head_size), size = static_cast<size_t>(c.head_size);
  const Device& device = model_->device(layer);
  Team team(model_->threads, &s.stop(), device.queue.get());
  Numbers<float> k = numbers(static_cast<size_t>(std::min(n, kStageRows)) * ld);
  std::vector<float> mean(static_cast<size_t>(n) * size);
  const float share = 1 / static_cast<float>(c.kv_heads);
  for (int begin = 0; begin < n; begin += kStageRows) {
    const int count = std::min(kStageRows, n - begin);
    project_keys(s, layer, begin, count, k.data(), team);
    device.wait();
    for (size_t i = 0; i < static_cast<size_t>(count) * ld; i++)
      mean[(static_cast<size_t>(begin) + i / ld) * size + i % size] += k[i] * share;
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
  const RowSources& source = s.cache().head(layer, head).source;
  need_no_coarse(s.cache(), layer);
  const auto rows = [&](std::vector<int32_t> tokens) {
    for (int32_t& token : tokens) {
      const int row = source.row_of(token);
      if (row < 0)
        throw Error(Code::plan, "[plan] expected rows of layer " + std::to_string(layer) + " head " +
                                    std::to_string(head) + ", token " + std::to_string(token) + " has none");
      token = row;
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
