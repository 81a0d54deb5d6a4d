// What a LLaVA folder says of its tower, in the words of a clip GGUF. Its text half is weights_config.cc's.
#include <algorithm>

#include "engine/weights_config.h"

namespace tokensieve::formats {

namespace {

using json::Kind;
using json::Node;
using json::quoted;

constexpr uint64_t kMost = uint64_t{1} << 31;
constexpr size_t kMostGrids = 4096;

class Vision : ConfigReader {
 public:
  Vision(const Node& root, const std::string& name, std::map<std::string, Value>* metadata)
      : ConfigReader(name), root_(root), metadata_(*metadata) {}
  void run();

 private:
  void set(const char* key, Value value) { metadata_[std::string("clip.") + key] = std::move(value); }
  void sizes();
  void activation();
  void rows();
  void grids();

  const Node& root_;
  std::map<std::string, Value>& metadata_;
  const Node* tower_ = nullptr;
  bool siglip_ = false;
  uint64_t layers_ = 0;
};

// The defaults of the two kinds of towers.
void Vision::sizes() {
  const std::string type = text(*tower_, "model_type", "clip_vision_model");
  siglip_ = type == "siglip_vision_model";
  if (!siglip_ && type != "clip_vision_model") {
    throw unsupported(name_, "expected the vision model clip_vision_model or siglip_vision_model, got " + quoted(type));
  }
  const auto size = [&](const char* key, const char* as, uint64_t fallback) {
    const uint64_t n = natural(*tower_, key, kMost, fallback);
    set(as, n);
    return n;
  };
  size("image_size", "vision.image_size", 224);
  size("patch_size", "vision.patch_size", siglip_ ? 16 : 32);
  size("hidden_size", "vision.embedding_length", 768);
  size("intermediate_size", "vision.feed_forward_length", 3072);
  size("num_attention_heads", "vision.attention.head_count", 12);
  layers_ = size("num_hidden_layers", "vision.block_count", 12);
  set("vision.attention.layer_norm_epsilon", positive(*tower_, "layer_norm_eps", siglip_ ? 1e-6 : 1e-5));
}

void Vision::activation() {
  const std::string act = text(*tower_, "hidden_act", siglip_ ? "gelu_pytorch_tanh" : "quick_gelu");
  if (act == "gelu")
    set("use_gelu_erf", true);
  else if (act == "gelu_pytorch_tanh" || act == "gelu_new")
    set("use_gelu", true);
  else if (act == "silu")
    set("use_silu", true);
  else if (act != "quick_gelu")
    throw unsupported(name_, "the activation " + quoted(act) + " in a vision tower");
  const std::string between = text(root_, "projector_hidden_act", "gelu");
  if (between != "gelu") throw unsupported(name_, "expected the projector's activation gelu, got " + quoted(between));
}

// Which rows go to the projector: of which block, with or without the class token.
void Vision::rows() {
  const Node* layer = root_.find("vision_feature_layer");
  if (layer && layer->kind == Kind::array && layer->items.size() == 1) layer = &layer->items[0];
  if (layer && layer->kind != Kind::number)
    throw unsupported(name_, "expected `vision_feature_layer` to be one number");
  double number = layer ? layer->number : -2;
  const double count = static_cast<double>(layers_);
  if (number < 0) number += count + 1;
  if (!(number >= 1 && number <= count) || number != static_cast<double>(static_cast<int64_t>(number))) {
    throw bad(name_, "expected `vision_feature_layer` to be one of the tower's " + std::to_string(layers_) + " layers");
  }
  set("vision.feature_layer", static_cast<int64_t>(number));
  const std::string strategy = text(root_, "vision_feature_select_strategy", "default");
  if (strategy != (siglip_ ? "full" : "default")) {
    throw unsupported(name_,
                      "expected all patches and no class token of the tower, the strategy is " + quoted(strategy));
  }
}

// [[height, width], ...] one after the other.
void Vision::grids() {
  const Node* grids = find(root_, "image_grid_pinpoints", Kind::array, "a list");
  if (!grids) return;
  std::vector<int64_t> flat;
  for (const Node& pair : grids->items) {
    const bool good = pair.kind == Kind::array && pair.items.size() == 2 && flat.size() < kMostGrids;
    for (const Node& side : pair.items) {
      if (!good || side.kind != Kind::number || !(side.number >= 1 && side.number <= 65536))
        throw bad(name_, "expected `image_grid_pinpoints` to be a list of heights and widths");
      flat.push_back(static_cast<int64_t>(side.number));
    }
  }
  set("vision.image_grid_pinpoints", std::move(flat));
}

void Vision::run() {
  tower_ = find(root_, "vision_config", Kind::object, "an object");
  if (!tower_) throw bad(name_, "expected `vision_config`, which describes the tower of a llava");
  sizes();
  activation();
  rows();
  grids();
  set("projector_type", std::string("mlp"));
}

constexpr Name kInTower[] = {{"layer_norm1", "ln1", nullptr},         {"layer_norm2", "ln2", nullptr},
                             {"self_attn.q_proj", "attn_q", nullptr}, {"self_attn.k_proj", "attn_k", nullptr},
                             {"self_attn.v_proj", "attn_v", nullptr}, {"self_attn.out_proj", "attn_out", nullptr},
                             {"mlp.fc1", "ffn_up", nullptr},          {"mlp.fc2", "ffn_down", nullptr}};
// Without a norm behind the last block: the rows of LLaVA are those before it.
constexpr Name kAround[] = {{"embeddings.class_embedding", "v.class_embd", nullptr},
                            {"embeddings.patch_embedding.weight", "v.patch_embd.weight", nullptr},
                            {"embeddings.patch_embedding.bias", "v.patch_embd.bias", nullptr},
                            {"embeddings.position_embedding.weight", "v.position_embd.weight", nullptr},
                            {"pre_layrnorm.weight", "v.pre_ln.weight", nullptr},
                            {"pre_layrnorm.bias", "v.pre_ln.bias", nullptr}};
constexpr Name kBehind[] = {{"multi_modal_projector.linear_1.weight", "mm.0.weight", nullptr},
                            {"multi_modal_projector.linear_1.bias", "mm.0.bias", nullptr},
                            {"multi_modal_projector.linear_2.weight", "mm.2.weight", nullptr},
                            {"multi_modal_projector.linear_2.bias", "mm.2.bias", nullptr},
                            {"image_newline", "model.image_newline", nullptr}};

template <size_t count>
std::string named(const Name (&names)[count], std::string_view from) {
  const char* to = look_up(names, count, from, false);
  return to ? to : "";
}

}  // namespace

void translate_vision(const Node& root, const std::string& name, std::map<std::string, Value>* metadata) {
  Vision(root, name, metadata).run();
}

std::string translate_vision_name(std::string_view name) {
  drop_prefix(&name, "model.");
  if (!drop_prefix(&name, "vision_tower.")) return named(kBehind, name);
  drop_prefix(&name, "vision_model.");
  if (!drop_prefix(&name, "encoder.layers.")) return named(kAround, name);
  const std::string inner = translate_in_layer(kInTower, sizeof kInTower / sizeof *kInTower, name, false);
  return inner.empty() ? "" : "v.blk." + inner;
}

}  // namespace tokensieve::formats
