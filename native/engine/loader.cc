#include "engine/loader.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace tokensieve {

namespace {

bool of_decoder(const std::string& name) { return !of_vision(name); }

}  // namespace

Loader::Loader(const Weights& weights, Model& model, const LoadControl& control)
    : Packer(weights, model, control, of_decoder), model_(model) {}

std::string Loader::key(const char* suffix) const { return model_.config.architecture + "." + suffix; }
std::string Loader::block(int layer, const char* suffix) const { return "blk." + std::to_string(layer) + "." + suffix; }

const std::vector<int32_t>* Loader::rotary_order(int heads, int head_size, int rotated) {
  if (weights().rope_halves()) return nullptr;
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
  loader.place(m.device(0));
  const bool separate = find_tensor(loader.weights(), "output.weight", {c.vocabulary, c.hidden}) != nullptr;
  const Device &first = m.device(0), &last = m.device(c.layers - 1);
  const bool tied =
      !separate && first.backend == last.backend;  // else packed once more for a device that packs otherwise
  m.embedding = tied ? loader.head("token_embd.weight", c.vocabulary, c.hidden)
                     : loader.matrix("token_embd.weight", c.vocabulary, c.hidden);
  loader.place(last);
  m.output_norm = loader.vector("output_norm.weight", c.hidden, false, norm_plus_one);
  m.head = tied ? m.embedding : loader.head(separate ? "output.weight" : "token_embd.weight", c.vocabulary, c.hidden);
}

}  // namespace tokensieve
