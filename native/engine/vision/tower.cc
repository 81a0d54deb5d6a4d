#include "engine/vision/tower.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/trace.h"

namespace tokensieve {

namespace {

constexpr int kBatchRows = 2048;

// Attention is exact where the products are. Where they round anyway and the machine has dots of bf16, so do its keys
// and values.
DType type_of_pages(const VisionModel& model) {
  const auto kind = [&](DType type) { return model.backend->activation_kind(type); };
  if (kind(DType::bf16) != kernels::Kind::bf16) return DType::f32;
  const bool exact = kind(model.blocks[0].qkv.parts[0].w.type) == kernels::Kind::f32;
  return exact ? DType::f32 : DType::bf16;
}

}  // namespace

Tower::Tower(std::shared_ptr<const VisionModel> model) : model_(std::move(model)) {
  const VisionConfig& c = model_->config;
  head_ = (c.head_size + 15) / 16 * 16;
  ld_ = static_cast<size_t>(3 * c.heads * head_);
  stored_ = type_of_pages(*model_);
  shape_.heads = shape_.kv_heads = c.heads;
  shape_.head_size = head_;
  shape_.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_size)));
}

std::vector<Tower::Batch> Tower::batches(Glance& glance) const {
  std::vector<Batch> all;
  for (int crop = 0; crop < glance.crops(); crop++) {
    const int row = glance.begin(crop), rows = glance.begin(crop + 1) - row;
    if (all.empty() || all.back().rows + rows > kBatchRows) all.push_back({glance, crop, crop, row, 0});
    all.back().crop_end = crop + 1;
    all.back().rows += rows;
  }
  return all;
}

void Tower::advance(Glance& glance, int to, const std::vector<VisionLook>& looks) {
  const int last = 2 * model_->config.layers + 1;
  if (glance.broken_) throw Error(Code::internal, "[vision] expected a glance whose work was not stopped");
  if (to < std::max(0, glance.place_) || to > last) {
    throw Error(Code::internal, "[vision] expected a place from " + std::to_string(std::max(0, glance.place_)) +
                                    " to " + std::to_string(last) + ", got " + std::to_string(to));
  }
  for (const VisionLook& look : looks) {
    const bool classes = look.what == VisionLook::What::class_shares || look.what == VisionLook::What::class_logits;
    if (classes && !model_->config.class_token)
      throw Error(Code::plan, "[plan] expected a tower with a class token where its attention is asked for");
  }
  Team team(model_->threads, &glance.stop_);
  glance.broken_ = true;
  run(glance, to, looks, team);
  glance.broken_ = false;
}

void Tower::run(Glance& glance, int to, const std::vector<VisionLook>& looks, Team& team) {
  const int end = 2 * model_->config.layers;
  const auto check = [&] {
    if (team.stopped()) throw Error(Code::aborted, "[vision] the work was stopped");
  };
  if (glance.place_ < 0) embed(glance, team), check();
  for (; glance.place_ < to && glance.place_ < end; glance.place_++) {
    const int layer = glance.place_ / 2;
    const trace::Span span(trace::Kind::layer, "block", layer);
    for (const VisionLook& look : looks) {
      if (glance.place_ == 2 * look.layer) glance.begin_look(look);
    }
    for (const Batch& b : batches(glance)) {
      if (b.rows == 0) continue;
      if (glance.place_ % 2 == 0) {
        attention(b, layer, looks, team);
      } else {
        feed_forward(b, layer, team);
        if (layer == model_->config.layers - 1) post_norm(b, team);
      }
      check();
    }
  }
  if (glance.place_ < to) project(glance, team), check();
}

void Tower::norm(const VisionNorm& norm, const float* x, int rows, int width, float* y, Team& team) const {
  const size_t d = static_cast<size_t>(width);
  model_->backend->layer_norm(x, d, rows, width, norm.weight, norm.bias, model_->config.eps, y, d, team);
}

void Tower::apply(const Linear& linear, const float* x, int rows, int cols, bool accumulate, float* out, Team& team) {
  apply_linear(*model_->backend, linear, Arithmetic::fast, {x, static_cast<size_t>(cols), rows, cols}, accumulate, out,
               static_cast<size_t>(linear.rows), prepared_, team);
}

// ---- pixels -> rows

void Tower::embed(Glance& glance, Team& team) {
  glance.hidden_ = Buffer(static_cast<size_t>(glance.rows()) * static_cast<size_t>(glance.width()) * sizeof(float));
  for (const Batch& b : batches(glance)) {
    if (!team.stopped()) embed(b, team);
  }
  glance.pixels_ = Buffer();
  glance.place_ = 0;
}

// A patch as a row: its red, green and blue pixels, line by line.
void Tower::embed(const Batch& b, Team& team) {
  const VisionConfig& c = model_->config;
  const size_t d = static_cast<size_t>(c.width), p = static_cast<size_t>(c.patch), image = static_cast<size_t>(c.image);
  const int cells = c.side * c.side, columns = 3 * c.patch * c.patch;
  inner_.need(static_cast<size_t>(cells) * static_cast<size_t>(columns) * sizeof(float));
  float* const unfolded = inner_.as<float>();
  for (int crop = b.crop; crop < b.crop_end && !team.stopped(); crop++) {
    const float* const pixels = b.glance.pixels() + static_cast<size_t>(crop) * 3 * image * image;
    team.each(cells, [&](int cell, int) {
      float* to = unfolded + static_cast<size_t>(cell) * static_cast<size_t>(columns);
      const size_t top = static_cast<size_t>(cell / c.side) * p, left = static_cast<size_t>(cell % c.side) * p;
      for (size_t plane = 0; plane < 3; plane++) {
        for (size_t y = 0; y < p; y++, to += p)
          std::memcpy(to, pixels + (plane * image + top + y) * image + left, p * sizeof(float));
      }
    });
    float* row = b.glance.hidden() + static_cast<size_t>(b.glance.begin(crop)) * d;
    const float* position = model_->positions;
    if (c.class_token) {
      for (size_t i = 0; i < d; i++) row[i] = model_->class_row[i] + position[i];
      row += d, position += d;
    }
    std::memcpy(row, position, static_cast<size_t>(cells) * d * sizeof(float));
    apply(model_->patches, unfolded, cells, columns, true, row, team);
  }
  float* const rows = b.glance.hidden() + static_cast<size_t>(b.row) * d;
  if (model_->pre_norm.weight) norm(model_->pre_norm, rows, b.rows, c.width, rows, team);
}

// ---- a block

void Tower::attention(const Batch& b, int layer, const std::vector<VisionLook>& looks, Team& team) {
  const VisionConfig& c = model_->config;
  const VisionBlock& block = model_->blocks[static_cast<size_t>(layer)];
  const size_t n = static_cast<size_t>(b.rows), d = static_cast<size_t>(c.width);
  float* const hidden = b.glance.hidden() + static_cast<size_t>(b.row) * d;
  normed_.need(n * d * sizeof(float));
  wide_.need(n * 3 * d * sizeof(float));
  attended_.need(n * std::max(d, ld_ / 3) * sizeof(float));
  norm(block.attention_norm, hidden, b.rows, c.width, normed_.as<float>(), team);
  apply(block.qkv, normed_.as<float>(), b.rows, c.width, false, wide_.as<float>(), team);
  if (head_ != c.head_size) spread(b.rows, team);
  page(b, team);
  if (team.stopped()) return;  // some pages and views are not there
  attend(b, team);
  for (const VisionLook& look : looks) {
    if (look.layer == layer && !team.stopped()) observe(b, look, team);
  }
  if (head_ != c.head_size) collect(b.rows, team);
  apply(block.output, attended_.as<float>(), b.rows, c.width, true, hidden, team);
}

void Tower::feed_forward(const Batch& b, int layer, Team& team) {
  const VisionConfig& c = model_->config;
  const VisionBlock& block = model_->blocks[static_cast<size_t>(layer)];
  const size_t n = static_cast<size_t>(b.rows), d = static_cast<size_t>(c.width),
               wide = static_cast<size_t>(c.feed_forward);
  float* const hidden = b.glance.hidden() + static_cast<size_t>(b.row) * d;
  normed_.need(n * d * sizeof(float));
  inner_.need(n * wide * sizeof(float));
  float* const inner = inner_.as<float>();
  norm(block.feed_forward_norm, hidden, b.rows, c.width, normed_.as<float>(), team);
  apply(block.up, normed_.as<float>(), b.rows, c.width, false, inner, team);
  model_->backend->activate(c.activation, inner, wide, b.rows, c.feed_forward, inner, wide, team);
  apply(block.down, inner, b.rows, c.feed_forward, true, hidden, team);
}

void Tower::post_norm(const Batch& b, Team& team) {
  if (!model_->post_norm.weight) return;
  float* const rows = b.glance.hidden() + static_cast<size_t>(b.row) * static_cast<size_t>(model_->config.width);
  norm(model_->post_norm, rows, b.rows, model_->config.width, rows, team);
}

// ---- rows -> rows of the decoder

void Tower::project(Glance& glance, Team& team) {
  const VisionConfig& c = model_->config;
  const int joined = c.pool * c.pool, cells = c.side * c.side / joined;
  std::vector<int32_t> begin, source;
  std::vector<float> size;
  for (int crop = 0; crop < glance.crops(); crop++) {
    begin.push_back(static_cast<int32_t>(source.size()));
    for (int row = glance.begin(crop) + glance.class_rows(crop); row < glance.begin(crop + 1); row += joined) {
      source.push_back(c.pool > 1 ? crop * cells + static_cast<int32_t>(source.size()) - begin.back()
                                  : glance.source(row));
      size.push_back(glance.size(row));
    }
  }
  begin.push_back(static_cast<int32_t>(source.size()));
  Buffer out(source.size() * static_cast<size_t>(c.output) * sizeof(float));
  for (const Batch& b : batches(glance)) {
    if (team.stopped()) return;
    project(b,
            out.as<float>() + static_cast<size_t>(begin[static_cast<size_t>(b.crop)]) * static_cast<size_t>(c.output),
            team);
  }
  glance.hidden_ = std::move(out);
  glance.begin_.swap(begin), glance.source_.swap(source), glance.size_.swap(size);
  glance.width_ = c.output, glance.class_rows_.assign(glance.class_rows_.size(), 0);
  glance.place_++;
}

// Patches without class tokens, normed and, where the projector joins some, side by side. The number of rows of out.
int Tower::gather_patches(const Batch& b, float* out, Team& team) const {
  const VisionConfig& c = model_->config;
  const size_t d = static_cast<size_t>(c.width);
  std::vector<int32_t> index;
  for (int crop = b.crop; crop < b.crop_end; crop++) {
    const int first = b.glance.begin(crop) + b.glance.class_rows(crop), end = b.glance.begin(crop + 1);
    for (int i = 0; i < end - first; i++) {
      const int joined = c.pool * c.pool, cell = i / joined, part = i % joined, small = c.side / c.pool;
      const int row = cell / small * c.pool + part / c.pool, column = cell % small * c.pool + part % c.pool;
      index.push_back(c.pool > 1 ? first + row * c.side + column : first + i);
    }
  }
  const int n = static_cast<int>(index.size());
  model_->backend->gather(b.glance.hidden(), d, c.width, index.data(), n, out, d, team);
  if (model_->projector_norm.weight) norm(model_->projector_norm, out, n, c.width, out, team);
  return n / (c.pool * c.pool);
}

void Tower::project(const Batch& b, float* out, Team& team) {
  const VisionConfig& c = model_->config;
  normed_.need(static_cast<size_t>(b.rows) * static_cast<size_t>(c.width) * sizeof(float));
  float* const rows = normed_.as<float>();
  const int n = gather_patches(b, rows, team), cols = c.width * c.pool * c.pool;
  if (n == 0) return;
  if (model_->second.parts.empty()) return apply(model_->first, rows, n, cols, false, out, team);
  const int wide = model_->first.rows;
  const size_t ld = static_cast<size_t>(wide);
  inner_.need(static_cast<size_t>(n) * ld * sizeof(float));
  apply(model_->first, rows, n, cols, false, inner_.as<float>(), team);
  model_->backend->activate(kernels::Activation::gelu, inner_.as<float>(), ld, n, wide, inner_.as<float>(), ld, team);
  apply(model_->second, inner_.as<float>(), n, wide, false, out, team);
}

}  // namespace tokensieve
