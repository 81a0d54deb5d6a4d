#include "engine/block.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/trace.h"

namespace tokensieve {

kernels::AttentionShape attention_shape(const Model& model) {
  const Config& c = model.config;
  kernels::AttentionShape shape;
  shape.heads = c.heads, shape.kv_heads = c.kv_heads, shape.head_size = c.head_size, shape.scale = c.attention_scale;
  return shape;
}

Linear slice(const kernels::Backend& backend, const Linear& linear, int begin, int end, int cols) {
  Linear out;
  out.rows = end - begin;
  for (const Linear::Part& p : linear.parts) {
    const int from = std::max(begin, p.offset), to = std::min(end, p.offset + p.w.rows);
    if (from >= to) continue;
    Linear::Part part = p;
    part.w.data += backend.packed_bytes(p.w.type, from - p.offset, cols);
    part.w.rows = to - from;
    part.offset = from - begin;
    if (part.bias) part.bias += from - p.offset;
    out.parts.push_back(part);
  }
  return out;
}

// A query sees its own source and those before it, within the window. The first is looked for, the rest follow, or are
// looked for where they come before (probes take rows in any order).
static void see_rows(const RowSources& held, int window, const int32_t* source, int n, int* first, int* end) {
  first[0] = window > 0 ? held.up_to(source[0] - window) : 0, end[0] = held.up_to(source[0]);
  if (n == 1) return;
  const std::vector<int32_t> rows = held.all();
  const int count = static_cast<int>(rows.size());
  int low = first[0], high = end[0];
  for (int i = 0; i < n; i++) {
    if (i > 0 && source[i] < source[i - 1])
      low = window > 0 ? held.up_to(source[i] - window) : 0, high = held.up_to(source[i]);
    while (high < count && rows[static_cast<size_t>(high)] <= source[i]) high++;
    while (window > 0 && low < high && rows[static_cast<size_t>(low)] <= source[i] - window) low++;
    first[i] = low, end[i] = high;
  }
}

void LayerViews::build(const Session& s, KvCache& cache, int layer, const int32_t* source, int n) {
  const trace::Span span(trace::Kind::kernel, "views");
  const int kv_heads = cache.shape().kv_heads, window = s.model().layers[static_cast<size_t>(layer)].window;
  views.assign(static_cast<size_t>(kv_heads), {});
  first.resize(views.size()), end.resize(views.size()), bias.resize(views.size(), Numbers<float>(s.model().memory()));
  for (size_t h = 0; h < views.size(); h++) {
    const HeadRows& head = cache.head(layer, static_cast<int>(h));
    kernels::View& v = views[h];
    cache.view(layer, static_cast<int>(h), &v);
    first[h].resize(static_cast<size_t>(n)), end[h].resize(static_cast<size_t>(n));
    v.first = first[h].data(), v.end = end[h].data();
    if (s.hears(layer, static_cast<int>(h))) {
      see_rows(head.source, window, source, n, first[h].data(), end[h].data());
      // Coarse rows are of calls before this one, in layers without a window.
      for (int32_t& seen : end[h]) seen += static_cast<int32_t>(head.coarse.size());
    } else {  // what it gives counts as zero: it sees nothing
      std::fill(first[h].begin(), first[h].end(), 0), std::fill(end[h].begin(), end[h].end(), 0);
    }
    if (!head.size.empty()) {
      s.model().wait();  // the layer before may still read what was here
      bias[h].resize(head.size.size());
      for (size_t j = 0; j < head.size.size(); j++) bias[h][j] = std::log(head.size[j]);
      v.bias = bias[h].data();
    }
  }
}

Block::Block(Stage& stage, const Device& device, std::vector<StageEntry*>& entries, float* hidden, int rows, Team& team)
    : stage_(stage),
      model_(*stage.model_),
      device_(device),
      arithmetic_(entries[0]->session->arithmetic()),
      backend_(*device.backend),
      entries_(entries),
      hidden_(hidden),
      rows_(rows),
      team_(team) {
  const Config& c = model_.config;
  const size_t n = static_cast<size_t>(rows);
  width_ = static_cast<size_t>((c.heads + 2 * c.kv_heads) * c.head_size);
  int row = 0;
  for (const StageEntry* e : entries) at_.push_back(row), row += e->end - e->begin;
  stage_.normed_.need(n * static_cast<size_t>(c.hidden) * sizeof(float));
  bool apart = false;
  for (const Layer& l : model_.layers) apart = apart || !l.gate_up.gated || arithmetic_ == Arithmetic::fine;
  stage_.qkv_.need(n * std::max(width_, static_cast<size_t>(apart ? 2 * c.feed_forward : 0)) * sizeof(float));
  stage_.attended_.need(n * static_cast<size_t>(std::max(c.heads * c.head_size, c.hidden)) * sizeof(float));
}

void Block::run(int layer) {
  const trace::Span span(trace::Kind::layer, "layer", layer);
  attention(layer);
  feed_forward(layer);
  end(layer);
}

void Block::end(int layer) {
  if (team_.stopped()) throw Error(Code::aborted, "[stage] the call was stopped");
  for (StageEntry* e : entries_) e->session->ran(layer);
}

// hidden += linear(in), or hidden += norm(linear(x)) where the architecture norms what a sub-layer gives.
void Block::add_to_hidden(const Linear& linear, const Input& in, const float* post_norm) {
  const size_t d = static_cast<size_t>(model_.config.hidden);
  if (post_norm == nullptr) {
    stage_.apply(device_, linear, arithmetic_, in, true, hidden_, d, team_);
    return;
  }
  float* y = stage_.normed_.as<float>();
  stage_.apply(device_, linear, arithmetic_, in, false, y, d, team_);
  backend_.rms_norm(y, d, rows_, 1, static_cast<int>(d), post_norm, model_.config.norm_eps, hidden_, hidden_, d, team_);
}

void Block::attention(int layer) {
  if (entries_[0]->session->options().skip_attention[static_cast<size_t>(layer)]) return;
  take_in(layer, Part::all);
  give_out(layer);
}

void Block::take_in(int layer, Part part) {
  project(layer, part);
  if (part == Part::all) watch_queries(layer);
  if (part != Part::queries) watch_keys(layer);
  rotate(layer, part);
  hadamard_in(layer, part);
  if (part != Part::queries) append(layer);
}

void Block::give_out(int layer) {
  attend(layer);
  silence(layer);
  hadamard_out(layer);
  look_ahead(layer);
  const Config& c = model_.config;
  const Layer& l = model_.layers[static_cast<size_t>(layer)];
  const int wide = c.heads * c.head_size;
  add_to_hidden(l.output, {stage_.attended_.as<float>(), static_cast<size_t>(wide), rows_, wide},
                l.post_attention_norm);
}

void Block::feed_forward(int layer) {
  if (entries_[0]->session->options().skip_mlp[static_cast<size_t>(layer)]) return;
  const Config& c = model_.config;
  const Layer& l = model_.layers[static_cast<size_t>(layer)];
  const size_t d = static_cast<size_t>(c.hidden), inner = static_cast<size_t>(c.feed_forward);
  const Norm norm{l.feed_forward_norm, c.norm_eps, stage_.normed_.as<float>()};
  const Input in{hidden_, d, rows_, c.hidden, &norm};
  if (l.gate_up.gated && arithmetic_ == Arithmetic::fast) {
    const kernels::Prepared gated =
        apply_gated(backend_, l.gate_up, c.activation, in, l.down, stage_.gated_, stage_.prepared_, team_);
    add_to_hidden(l.down, {gated.f32, gated.ld, rows_, c.feed_forward, nullptr, &gated}, l.post_feed_forward_norm);
    return;
  }
  float* gate_up = stage_.qkv_.as<float>();
  stage_.gated_.need(static_cast<size_t>(rows_) * inner * sizeof(float));
  float* gated = stage_.gated_.as<float>();
  stage_.apply(device_, l.gate_up, arithmetic_, in, false, gate_up, 2 * inner, team_);
  // Where they take turns (kernels/matmul.h) each 16 gate columns and their 16 up columns are a row by themselves.
  const int each = l.gate_up.gated ? 16 : c.feed_forward, rows = rows_ * (c.feed_forward / each);
  const size_t ld = static_cast<size_t>(each);
  backend_.gate(c.activation, gate_up, 2 * ld, rows, each, gated, ld, team_);
  add_to_hidden(l.down, {gated, inner, rows_, c.feed_forward}, l.post_feed_forward_norm);
}

void Block::project(int layer, Part part) {
  const Config& c = model_.config;
  const Layer& l = model_.layers[static_cast<size_t>(layer)];
  const size_t d = static_cast<size_t>(c.hidden);
  const Norm norm{l.attention_norm, c.norm_eps, stage_.normed_.as<float>()};
  float* qkv = stage_.qkv_.as<float>();
  const int q_width = c.heads * c.head_size;
  float* k = qkv + q_width;
  Linear some;
  if (part == Part::queries) some = slice(backend_, l.qkv, 0, q_width, c.hidden);
  if (part == Part::keys) some = slice(backend_, l.qkv, q_width, static_cast<int>(width_), c.hidden);
  stage_.apply(device_, part == Part::all ? l.qkv : some, arithmetic_, {hidden_, d, rows_, c.hidden, &norm}, false,
               part == Part::keys ? k : qkv, width_, team_);
  if (l.q_norm && part != Part::keys)
    backend_.rms_norm(qkv, width_, rows_, c.heads, c.head_size, l.q_norm, c.norm_eps, nullptr, qkv, width_, team_);
  if (l.k_norm && part != Part::queries)
    backend_.rms_norm(k, width_, rows_, c.kv_heads, c.head_size, l.k_norm, c.norm_eps, nullptr, k, width_, team_);
}

// Rotates q and k by their positions. One call for all sessions, unless keys stay un-rotated or the angles depend on how long each session is.
void Block::rotate(int layer, Part part) {
  const Config& c = model_.config;
  const int rotary = model_.layers[static_cast<size_t>(layer)].rotary;
  const Rotary& r = model_.rotaries[static_cast<size_t>(rotary)];
  const int first = part == Part::keys ? c.heads : 0,
            heads = (part == Part::queries ? c.heads : c.heads + c.kv_heads) - first;
  bool together = r.dynamic == 0 || entries_.size() == 1;
  for (const StageEntry* e : entries_) together = together && !e->session->options().repack;
  std::vector<int32_t> position;
  for (size_t i = 0; i < entries_.size(); i++) {
    const StageEntry& e = *entries_[i];
    const Session& s = *e.session;
    if (!s.options().repack) {
      for (int row = e.begin; row < e.end; row++)
        position.push_back(s.next_position(layer) + s.rows().offset[static_cast<size_t>(row)]);
    }
    if (together && i + 1 < entries_.size()) continue;
    if (s.options().repack) {
      if (part != Part::keys) rotate_by_slot(layer, i, part == Part::queries);
      continue;
    }
    const Stage::Angles& a = stage_.angles(device_, rotary, position, s.length(layer));
    float* rows = stage_.qkv_.as<float>() + first * c.head_size;
    if (!together) rows += static_cast<size_t>(at_[i]) * width_;
    backend_.rope(rows, width_, together ? rows_ : e.end - e.begin, heads, c.head_size, r.rotated, a.cos.data(),
                  a.sin.data(), team_);
    position.clear();
  }
}

// q alone, by the slots that the rows take in each head, or have taken.
void Block::rotate_by_slot(int layer, size_t entry, bool taken) {
  const Config& c = model_.config;
  const StageEntry& e = *entries_[entry];
  const int rotary = model_.layers[static_cast<size_t>(layer)].rotary, group = c.heads / c.kv_heads,
            n = e.end - e.begin;
  std::vector<int32_t> position(static_cast<size_t>(n));
  for (int h = 0; h < c.kv_heads; h++) {
    const int slot = e.session->cache().rows(layer, h) - (taken ? n : 0);
    for (int row = 0; row < n; row++) position[static_cast<size_t>(row)] = slot + row;
    const Stage::Angles& a = stage_.angles(device_, rotary, position, 0);
    float* q = stage_.qkv_.as<float>() + static_cast<size_t>(at_[entry]) * width_ + h * group * c.head_size;
    backend_.rope(q, width_, n, group, c.head_size, model_.rotaries[static_cast<size_t>(rotary)].rotated, a.cos.data(),
                  a.sin.data(), team_);
  }
}

// Whether the caches of all heads of the batch are made of the Hadamard transform: one call does it then.
bool Block::all_ask(bool HeadKv::* asks, int layer) const {
  for (const StageEntry* e : entries_) {
    for (int h = 0; h < model_.config.kv_heads; h++) {
      if (!(e->session->kv(layer, h).*asks)) return false;
    }
  }
  return true;
}

void Block::hadamard(bool HeadKv::* asks, int layer, float* rows, size_t ld, int each) {
  const Config& c = model_.config;
  if (all_ask(asks, layer)) {
    backend_.hadamard(rows, ld, rows_, c.kv_heads * each, c.head_size, team_);
    return;
  }
  for (size_t i = 0; i < entries_.size(); i++) {
    const StageEntry& e = *entries_[i];
    e.session->hadamard(asks, layer, rows + static_cast<size_t>(at_[i]) * ld, ld, e.end - e.begin, each, team_);
  }
}

void Block::hadamard_in(int layer, Part part) {
  const Config& c = model_.config;
  float* qkv = stage_.qkv_.as<float>();
  if (part == Part::all && all_ask(&HeadKv::hadamard_keys, layer)) {
    backend_.hadamard(qkv, width_, rows_, c.heads + c.kv_heads, c.head_size, team_);
  } else {
    if (part != Part::keys) hadamard(&HeadKv::hadamard_keys, layer, qkv, width_, c.heads / c.kv_heads);
    if (part != Part::queries) hadamard(&HeadKv::hadamard_keys, layer, qkv + c.heads * c.head_size, width_, 1);
  }
  if (part == Part::queries) return;
  hadamard(&HeadKv::hadamard_values, layer, qkv + (c.heads + c.kv_heads) * c.head_size, width_, 1);
}

void Block::hadamard_out(int layer) {
  const Config& c = model_.config;
  const size_t wide = static_cast<size_t>(c.heads * c.head_size);
  hadamard(&HeadKv::hadamard_values, layer, stage_.attended_.as<float>(), wide, c.heads / c.kv_heads);
}

void Block::watch_keys(int layer) {
  const Config& c = model_.config;
  for (size_t i = 0; i < entries_.size(); i++) {
    const StageEntry& e = *entries_[i];
    const Look* look = e.session->look(layer);
    if (look == nullptr || !look->key_norms) continue;
    device_.wait();
    const float* row = stage_.qkv_.as<float>() + static_cast<size_t>(at_[i]) * width_;
    e.session->watch_keys(layer, row + c.heads * c.head_size, width_, e.end - e.begin);
  }
}

// What heads that a session skips have attended to counts as zero.
void Block::silence(int layer) {
  const Config& c = model_.config;
  const size_t size = static_cast<size_t>(c.head_size), wide = static_cast<size_t>(c.heads) * size;
  for (size_t i = 0; i < entries_.size(); i++) {
    const StageEntry& e = *entries_[i];
    for (int h = 0; h < c.heads; h++) {
      if (e.session->gives(layer, h)) continue;
      device_.wait();
      float* out = stage_.attended_.as<float>() + static_cast<size_t>(at_[i]) * wide + static_cast<size_t>(h) * size;
      for (int row = e.begin; row < e.end; row++, out += wide) std::fill(out, out + size, 0.f);
    }
  }
}

void Block::append(int layer) {
  const trace::Span span(trace::Kind::kernel, "append");
  const Config& c = model_.config;
  const float* k = stage_.qkv_.as<float>() + c.heads * c.head_size;
  const float* v = k + c.kv_heads * c.head_size;
  for (size_t i = 0; i < entries_.size(); i++) {
    const StageEntry& e = *entries_[i];
    const Rows& rows = e.session->rows();
    const size_t row = static_cast<size_t>(at_[i]) * width_;
    const int n = e.end - e.begin;
    // For all rows that this layer will take, so that a head's pages lie together; decode steps have reserved before.
    if (e.session->call_tokens() > 1) {
      const int all = static_cast<int>(rows.source.size()) - e.begin;
      e.session->cache().reserve(layer, all, !rows.size.empty(), runs_in(rows.source.data() + e.begin, all));
    }
    e.session->cache().append(backend_, layer, k + row, width_, v + row, width_, n, rows.source.data() + e.begin,
                              rows.size.empty() ? nullptr : rows.size.data() + e.begin, team_);
  }
}

void Block::attend(int layer) {
  const Config& c = model_.config;
  const size_t wide = static_cast<size_t>(c.heads * c.head_size);
  views_.resize(entries_.size());
  jobs_.assign(entries_.size(), {});
  for (size_t i = 0; i < entries_.size(); i++) {
    const StageEntry& e = *entries_[i];
    kernels::AttentionJob& job = jobs_[i];
    job.n = e.end - e.begin;
    views_[i].build(*e.session, e.session->cache(), layer, e.session->rows().source.data() + e.begin, job.n);
    KvCache& cache = e.session->cache();
    for (int h = 0; h < c.kv_heads; h++) {
      if (e.session->sums_attention(layer, h))
        views_[i].views[static_cast<size_t>(h)].mass =
            stage_.mass_ ? stage_.mass_->add(cache, layer, h) : cache.mass(layer, h);
    }
    job.views = views_[i].views.data();
    job.q = stage_.qkv_.as<float>() + static_cast<size_t>(at_[i]) * width_;
    job.ldq = width_;
    job.out = stage_.attended_.as<float>() + static_cast<size_t>(at_[i]) * wide;
    job.ldo = wide;
  }
  kernels::AttentionShape shape = attention_shape(model_);
  shape.fine = arithmetic_ == Arithmetic::fine;
  // Sessions whose keys are rotated late read other tables: two calls where a batch holds both kinds.
  for (bool late : {false, true}) {
    part_.clear();
    int most = 0;
    for (size_t i = 0; i < entries_.size(); i++) {
      if (entries_[i]->session->options().repack != late) continue;
      part_.push_back(jobs_[i]);
      for (const kernels::View& v : views_[i].views) most = std::max(most, v.rows);
    }
    if (part_.empty()) continue;
    if (late) stage_.late(layer, most, &shape);
    const int count = static_cast<int>(part_.size());
    stage_.scratch_.need(backend_.attention_scratch(shape, part_.data(), count, team_.size()));
    backend_.attention(shape, part_.data(), count, stage_.scratch_.data(), team_);
    for (size_t i = 0; i < entries_.size(); i++) {
      if (entries_[i]->session->options().repack == late) observe(*entries_[i], layer, jobs_[i], shape);
    }
  }
}

// Probabilities of the rows that a method looks at, while their queries are at hand. Column sums are the attention's own.
void Block::observe(StageEntry& e, int layer, const kernels::AttentionJob& job, const kernels::AttentionShape& shape) {
  Session& s = *e.session;
  const Look* look = s.look(layer);
  if (look == nullptr || look->attention_rows == 0) return;
  const int from = std::max(e.begin, static_cast<int>(s.rows().source.size()) - look->attention_rows);
  if (from >= e.end) return;
  std::vector<kernels::View> views(job.views, job.views + shape.kv_heads);
  for (kernels::View& v : views) v.first += from - e.begin, v.end += from - e.begin;
  kernels::AttentionJob part = job;
  part.q += static_cast<size_t>(from - e.begin) * job.ldq;
  part.n = e.end - from;
  part.views = views.data();
  size_t stride = 0;
  float* sums = s.look_buffer(layer, &stride);
  stage_.scratch_.need(backend_.attention_probe_scratch(shape, part, team_.size()));
  backend_.attention_probe(shape, part, false, sums, stride, stage_.scratch_.data(), team_);
}

}  // namespace tokensieve
