#include "engine/loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"

namespace tokensieve {

namespace {
constexpr int kReleaseSteps = 32;  // of 2^18 elements: 4 to 32 MB
}

Loader::Loader(const Weights& weights, Model& model, const LoadControl& control)
    : weights_(weights), model_(model), control_(control) {
  for (const auto& entry : weights.tensors()) total_ += entry.second.bytes;
}

std::string Loader::key(const char* suffix) const { return model_.config.architecture + "." + suffix; }
std::string Loader::block(int layer, const char* suffix) const { return "blk." + std::to_string(layer) + "." + suffix; }

// Bytes [from, to) of a tensor have been read and are not needed any more.
void Loader::advance(const Tensor& t, size_t from, size_t to) {
  const_cast<Weights&>(weights_).release(t.data + from, to - from);
  done_ += to - from;
  if (control_.progress) control_.progress(std::min(done_, total_), total_);
}

// Zeroed. As few mappings as can be, in huge pages: decoding reads all of them for every token.
uint8_t* Loader::room(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (bytes > left_) {
    const size_t rest = static_cast<size_t>(total_ - std::min(done_, total_));
    left_ = std::max(bytes, rest + rest / 16);
    model_.buffers.emplace_back(left_, true);
    next_ = model_.buffers.back().data();
  }
  uint8_t* const place = next_;
  next_ += bytes, left_ -= bytes;
  model_.weight_bytes += bytes;
  return place;
}

const float* Loader::keep(const std::vector<float>& values) {
  uint8_t* const place = room(values.size() * sizeof(float));
  std::memcpy(place, values.data(), values.size() * sizeof(float));
  return reinterpret_cast<const float*>(place);
}

const float* Loader::vector(const std::string& name, int size, bool optional, bool plus_one,
                            const std::vector<int32_t>* map) {
  const Tensor* t = optional ? find_tensor(weights_, name, {size}) : &need_tensor(weights_, name, {size});
  if (t == nullptr) return nullptr;
  std::vector<float> raw(static_cast<size_t>(size)), values(raw.size());
  model_.backend->dequantize(t->type, t->data, raw.size(), raw.data());
  for (size_t i = 0; i < raw.size(); i++)
    values[i] = raw[map ? static_cast<size_t>((*map)[i]) : i] + (plus_one && weights_.norms_plus_one() ? 1.f : 0.f);
  advance(*t, 0, t->bytes);
  return keep(values);
}

// Packs tensors of one type and input side by side into one matrix; inner tensors have a multiple of 16 rows.
kernels::PackedMatrix Loader::pack(const std::vector<const Tensor*>& tensors,
                                   const std::vector<const std::vector<int32_t>*>& maps) {
  kernels::PackedMatrix m;
  m.type = tensors[0]->type;
  m.cols = static_cast<int>(tensors[0]->cols());
  for (const Tensor* t : tensors) m.rows += static_cast<int>(t->rows());
  const kernels::Backend& backend = *model_.backend;
  uint8_t* const data = room(backend.packed_bytes(m.type, m.rows, m.cols));
  Team team(model_.threads, control_.stop);
  int row = 0;
  for (size_t i = 0; i < tensors.size(); i++) {
    const Tensor* t = tensors[i];
    uint8_t* out = data + backend.packed_bytes(m.type, row, m.cols);
    pack_rows(*t, maps[i], out, team);
    row += static_cast<int>(t->rows());
  }
  m.data = data;
  return m;
}

// A tensor whose rows keep their order leaves our memory as it is packed: of a big one never all is there twice.
void Loader::pack_rows(const Tensor& t, const std::vector<int32_t>* map, uint8_t* out, Team& team) {
  const int rows = static_cast<int>(t.rows()), cols = static_cast<int>(t.cols());
  const int step = std::max(16, (1 << 18) / cols / 16 * 16), reach = map ? rows : std::min(rows, kReleaseSteps * step);
  const size_t row_bytes = t.bytes / static_cast<size_t>(rows);
  for (int from = 0; from < rows; from += reach) {
    const int to = std::min(rows, from + reach);
    team.each((to - from + step - 1) / step, [&](int part, int) {
      const int first = from + part * step;
      model_.backend->pack(t.type, t.data, rows, cols, map ? map->data() : nullptr, first, std::min(to, first + step),
                           out);
    });
    if (team.stopped()) throw Error(Code::aborted, "[load] the load was stopped");
    advance(t, static_cast<size_t>(from) * row_bytes, static_cast<size_t>(to) * row_bytes);
  }
}

kernels::PackedMatrix Loader::matrix(const std::string& name, int rows, int cols) {
  return pack({&need_tensor(weights_, name, {rows, cols})}, {nullptr});
}

Linear Loader::linear(const std::vector<Source>& sources, int cols) {
  Linear linear;
  std::vector<const Tensor*> tensors;
  std::vector<const float*> biases;
  for (const Source& s : sources) {
    tensors.push_back(&need_tensor(weights_, s.name + ".weight", {s.rows, cols}));
    biases.push_back(vector(s.name + ".bias", s.rows, true, false, s.map));
  }
  for (size_t i = 0; i < sources.size();) {
    size_t end = i + 1;  // [i, end) share a type and have no bias: one matrix, one call
    while (end < sources.size() && tensors[end]->type == tensors[i]->type && sources[end - 1].rows % 16 == 0 &&
           !biases[i] && !biases[end])
      end++;
    std::vector<const std::vector<int32_t>*> maps;
    for (size_t j = i; j < end; j++) maps.push_back(sources[j].map);
    Linear::Part part;
    part.w = pack({tensors.begin() + static_cast<long>(i), tensors.begin() + static_cast<long>(end)}, maps);
    part.offset = linear.rows;
    part.bias = biases[i];
    linear.rows += part.w.rows;
    linear.parts.push_back(part);
    i = end;
  }
  return linear;
}

const std::vector<int32_t>* Loader::rotary_order(int heads, int head_size, int rotated) {
  if (weights_.rope_halves()) return nullptr;
  auto order = std::make_unique<std::vector<int32_t>>();
  for (int h = 0; h < heads; h++) {
    for (int i = 0; i < head_size; i++) {
      const int half = rotated / 2;
      const int from = i >= rotated ? i : i < half ? 2 * i : 2 * (i - half) + 1;
      order->push_back(h * head_size + from);
    }
  }
  orders_.push_back(std::move(order));
  return orders_.back().get();
}

void read_sizes(Loader& loader) {
  const Weights& w = loader.weights();
  Config& c = loader.model().config;
  c.name = get_string(w, "general.name", "");
  c.layers = static_cast<int>(need_int(w, loader.key("block_count"), 1, 1024));
  c.hidden = static_cast<int>(need_int(w, loader.key("embedding_length"), 16, 1 << 17));
  c.feed_forward = static_cast<int>(need_int(w, loader.key("feed_forward_length"), 16, 1 << 20));
  c.heads = static_cast<int>(need_int(w, loader.key("attention.head_count"), 1, 1024));
  c.kv_heads = static_cast<int>(get_int(w, loader.key("attention.head_count_kv"), 1, 1024, c.heads));
  c.head_size =
      static_cast<int>(get_int(w, loader.key("attention.key_length"), 16, 256, std::max(16, c.hidden / c.heads)));
  c.context = static_cast<int>(get_int(w, loader.key("context_length"), 1, 1 << 30, 2048));
  c.norm_eps = static_cast<float>(get_double(w, loader.key("attention.layer_norm_rms_epsilon"), 1e-5));
  const Tensor& embedding = [&]() -> const Tensor& {
    const auto found = w.tensors().find("token_embd.weight");
    if (found == w.tensors().end())
      throw Error(Code::file_format, "[weights] expected a tensor token_embd.weight, there is none");
    return found->second;
  }();
  if (embedding.shape.size() != 2 || embedding.shape[0] < 2 || embedding.shape[0] > (1 << 24)) {
    throw Error(Code::file_format, "[weights] expected token_embd.weight to be a matrix of 2 to 16777216 rows");
  }
  c.vocabulary = static_cast<int>(embedding.shape[0]);
  if (c.heads % c.kv_heads != 0 || c.head_size % 16 != 0) {
    throw Error(Code::unsupported,
                "[config] expected heads to be a multiple of kv heads and a head size that is a multiple of 16, got " +
                    std::to_string(c.heads) + ", " + std::to_string(c.kv_heads) + " and " +
                    std::to_string(c.head_size));
  }
  if (get_int(w, loader.key("attention.value_length"), 1, 1 << 16, c.head_size) != c.head_size) {
    throw Error(Code::unsupported, "[config] expected values as wide as keys (" + std::to_string(c.head_size) +
                                       "), the file has another attention.value_length");
  }
  c.attention_scale = 1.f / std::sqrt(static_cast<float>(c.head_size));
}

void read_ends(Loader& loader, bool norm_plus_one) {
  Model& m = loader.model();
  const Config& c = m.config;
  m.embedding = loader.matrix("token_embd.weight", c.vocabulary, c.hidden);
  m.output_norm = loader.vector("output_norm.weight", c.hidden, false, norm_plus_one);
  const bool separate = find_tensor(loader.weights(), "output.weight", {c.vocabulary, c.hidden}) != nullptr;
  m.head = separate ? loader.matrix("output.weight", c.vocabulary, c.hidden) : m.embedding;
}

}  // namespace tokensieve
