// What Hugging Face calls things, in GGUF's words. The defaults are those of the transformers library, which leaves out
// of config.json what equals them.
#include <algorithm>
#include <cmath>

#include "engine/weights_config.h"

namespace tokensieve::formats {

namespace {

using json::Kind;
using json::Node;
using json::quoted;

constexpr uint64_t kMostLayers = 4096, kMostWidth = uint64_t{1} << 31, kMostHead = 65536;
constexpr double kPi = 3.14159265358979323846;

class Translation : ConfigReader {
 public:
  Translation(std::string_view text, const std::string& name) : ConfigReader(name), root_(json::parse(text, name)) {}
  Config run();

 private:
  void set(const char* key, Value value) { config_.metadata[config_.architecture + "." + key] = std::move(value); }

  void choose();
  void refuse_unsupported() const;
  void sizes();
  void rope();
  void scaling(const Node& in);
  void llama3(const Node& in);
  void windows();
  void ends();

  Node root_;
  const Node* body_ = &root_;  // where the language model is described: text_config, or all
  bool gemma_ = false, pictures_ = false;
  uint64_t layers_ = 0, head_size_ = 0, context_ = 0;
  double base_ = 0;
  Config config_;
};

void Translation::choose() {
  if (root_.kind != Kind::object) throw bad(name_, "expected an object with the model's configuration");
  const std::string type = text(root_, "model_type", "");
  if (type == "gemma3") {
    body_ = find(root_, "text_config", Kind::object, "an object");
    if (!body_) throw bad(name_, "expected `text_config`, which describes the language model of a gemma3");
  }
  pictures_ = type == "llava" || type == "llava_next";
  if (pictures_) {
    body_ = find(root_, "text_config", Kind::object, "an object");
    if (!body_) throw bad(name_, "expected `text_config`, which describes the language model of a llava");
    const std::string inner = text(*body_, "model_type", "llama");
    if (inner != "llama") throw unsupported(name_, "expected a llava with a llama in it, got " + quoted(inner));
  }
  gemma_ = type == "gemma3" || type == "gemma3_text";
  if (!gemma_ && !pictures_ && type != "llama") {
    throw unsupported(name_, "expected the model type llama, llava, gemma3_text or gemma3, got " + quoted(type));
  }
  config_.architecture = gemma_ ? "gemma3" : "llama";
  config_.metadata["general.architecture"] = config_.architecture;
}

void Translation::refuse_unsupported() const {
  const std::string fallback = gemma_ ? "gelu_pytorch_tanh" : "silu";
  const std::string act =
      text(*body_, body_->find("hidden_activation") ? "hidden_activation" : "hidden_act", fallback.c_str());
  if (act != fallback) {
    throw unsupported(name_, "expected the activation " + quoted(fallback) + ", got " + quoted(act));
  }
  for (const char* key : {"final_logit_softcapping", "attn_logit_softcapping"}) {
    if (body_->find(key)) throw unsupported(name_, quoted(key) + " is not supported, expected null");
  }
  for (const Node* in : {static_cast<const Node*>(&root_), body_}) {
    if (in->find("quantization_config")) {
      throw unsupported(name_, "expected weights in F32, F16 or BF16; this model's were quantized by another program");
    }
  }
  const Node* both = find(*body_, "use_bidirectional_attention", Kind::boolean, "true or false");
  if (both && both->boolean) throw unsupported(name_, "attention to later tokens is not supported");
  const Node* part = find(*body_, "partial_rotary_factor", Kind::number, "a number");
  if (part && part->number != 1) throw unsupported(name_, "rotation of a part of each head is not supported");
}

void Translation::sizes() {
  // A llava leaves out what its llama has by default; a llama says all.
  const auto needed = [&](const char* key, uint64_t most, uint64_t gemma, uint64_t llava) {
    return natural(*body_, key, most, gemma_ ? gemma : pictures_ ? llava : 0);
  };
  layers_ = needed("num_hidden_layers", kMostLayers, 26, 32);
  const uint64_t width = needed("hidden_size", kMostWidth, 2304, 4096),
                 heads = needed("num_attention_heads", kMostWidth, 8, 32);
  context_ = natural(*body_, "max_position_embeddings", kMostWidth, gemma_ ? 131072 : 2048);
  head_size_ = natural(*body_, "head_dim", kMostHead, gemma_ ? 256 : std::max<uint64_t>(1, width / heads));
  if (head_size_ > kMostHead) throw bad(name_, "expected heads of at most " + std::to_string(kMostHead) + " elements");
  set("block_count", layers_);
  set("context_length", context_);
  set("embedding_length", width);
  set("feed_forward_length", needed("intermediate_size", kMostWidth, 9216, 11008));
  set("vocab_size", needed("vocab_size", kMostWidth, 262208, 32000));
  set("attention.head_count", heads);
  set("attention.head_count_kv", natural(*body_, "num_key_value_heads", kMostWidth, gemma_ ? 4 : heads));
  set("attention.key_length", head_size_);
  set("attention.value_length", head_size_);
  set("attention.layer_norm_rms_epsilon", positive(*body_, "rms_norm_eps", 1e-6));
  const Node* tied = body_->find("tie_word_embeddings") ? body_ : &root_;
  tied = find(*tied, "tie_word_embeddings", Kind::boolean, "true or false");
  config_.tied = tied ? tied->boolean : gemma_;
  config_.untied = tied && !tied->boolean;
}

// rope_theta and rope_scaling, or (transformers 5) rope_parameters with both, for Gemma one a kind of layer.
void Translation::rope() {
  const Node* in = find(*body_, "rope_parameters", Kind::object, "an object");
  const Node* full = in ? find(*in, "full_attention", Kind::object, "an object") : nullptr;
  const Node* sliding = in ? find(*in, "sliding_attention", Kind::object, "an object") : nullptr;
  if (full) in = full;
  base_ = positive(in && in->find("rope_theta") ? *in : *body_, "rope_theta", gemma_ ? 1000000 : 10000);
  set("rope.dimension_count", head_size_);
  set("rope.freq_base", base_);
  if (gemma_) {
    const double local = positive(*body_, "rope_local_base_freq", 10000);
    set("rope.freq_base_swa", sliding ? positive(*sliding, "rope_theta", local) : local);
    if (sliding && text(*sliding, "rope_type", "default") != "default") {
      throw unsupported(name_, "scaled positions in sliding layers are not supported");
    }
  }
  if (!in) in = find(*body_, "rope_scaling", Kind::object, "an object or null");
  if (in) scaling(*in);
}

void Translation::scaling(const Node& in) {
  const std::string type = text(in, "rope_type", text(in, "type", "default").c_str());
  if (type == "default") return;
  if (type == "llama3" && !gemma_) return llama3(in);
  if (type != "linear" && (type != "dynamic" || gemma_)) {
    throw unsupported(name_, std::string("expected the rope scaling default, linear") +
                                 (gemma_ ? "" : ", dynamic or llama3") + ", got " + quoted(type));
  }
  set("rope.scaling.type", type);
  set("rope.scaling.factor", positive(in, "factor", 0));
  if (type != "dynamic") return;
  set("rope.scaling.original_context_length", natural(in, "original_max_position_embeddings", kMostWidth, context_));
}

// Llama 3.1: long waves are stretched by `factor`, short ones stay, those between are blended.
void Translation::llama3(const Node& in) {
  const double factor = positive(in, "factor", 0), low = positive(in, "low_freq_factor", 0);
  const double high = positive(in, "high_freq_factor", 0);
  const double length = static_cast<double>(natural(in, "original_max_position_embeddings", kMostWidth, context_));
  if (high <= low) throw bad(name_, "expected `high_freq_factor` above `low_freq_factor`");
  for (uint64_t i = 0; i < head_size_ / 2; i++) {
    const double wave = 2 * kPi * std::pow(base_, 2.0 * static_cast<double>(i) / static_cast<double>(head_size_));
    const double blend = std::fmin(1, std::fmax(0, (length / wave - low) / (high - low)));
    config_.rope_factors.push_back(static_cast<float>(1 / ((1 - blend) / factor + blend)));
  }
}

void Translation::windows() {
  if (!gemma_) return;
  std::vector<int64_t> sliding;
  if (const Node* types = find(*body_, "layer_types", Kind::array, "a list")) {
    for (const Node& type : types->items) {
      const bool local = type.text == "sliding_attention";
      if (!local && type.text != "full_attention") throw unsupported(name_, "layer type " + quoted(type.text));
      sliding.push_back(local);
    }
    if (sliding.size() != layers_) {
      throw bad(name_, "expected `layer_types` of " + std::to_string(layers_) + " layers, got " +
                           std::to_string(sliding.size()));
    }
    const uint64_t every = 1 + static_cast<uint64_t>(std::find(sliding.begin(), sliding.end(), 0) - sliding.begin());
    bool regular = true;  // the last of every `every` layers sees all
    for (uint64_t i = 0; i < layers_; i++) regular &= sliding[i] == ((i + 1) % every != 0);
    set("attention.sliding_window_pattern", regular ? Value(every) : Value(std::move(sliding)));
  } else {
    const char* key = body_->find("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
    set("attention.sliding_window_pattern", natural(*body_, key, kMostLayers, 6));
  }
  set("attention.sliding_window", natural(*body_, "sliding_window", kMostWidth, 4096));
  set("attention.scale", 1 / std::sqrt(positive(*body_, "query_pre_attn_scalar", 256)));
}

void Translation::ends() {
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    const Node* node = body_->find(key) ? body_->find(key) : root_.find(key);
    if (node && node->kind == Kind::array && !node->items.empty()) node = &node->items[0];
    if (!node || node->kind != Kind::number || node->number < 0 || node->number >= kMostWidth) continue;
    config_.metadata[std::string("tokenizer.ggml.") + key] = static_cast<uint64_t>(node->number);
  }
}

Config Translation::run() {
  choose();
  refuse_unsupported();
  sizes();
  rope();
  windows();
  ends();
  if (pictures_) translate_vision(root_, name_, &config_.metadata);
  return std::move(config_);
}

constexpr Name kOutside[] = {{"model.embed_tokens.weight", "token_embd.weight", nullptr},
                             {"model.norm.weight", "output_norm.weight", nullptr},
                             {"lm_head.weight", "output.weight", nullptr}};
constexpr Name kInLayer[] = {{"input_layernorm", "attn_norm", nullptr},
                             {"self_attn.q_proj", "attn_q", nullptr},
                             {"self_attn.k_proj", "attn_k", nullptr},
                             {"self_attn.v_proj", "attn_v", nullptr},
                             {"self_attn.o_proj", "attn_output", nullptr},
                             {"self_attn.q_norm", "attn_q_norm", nullptr},
                             {"self_attn.k_norm", "attn_k_norm", nullptr},
                             {"post_attention_layernorm", "ffn_norm", "post_attention_norm"},
                             {"pre_feedforward_layernorm", nullptr, "ffn_norm"},
                             {"post_feedforward_layernorm", nullptr, "post_ffw_norm"},
                             {"mlp.gate_proj", "ffn_gate", nullptr},
                             {"mlp.up_proj", "ffn_up", nullptr},
                             {"mlp.down_proj", "ffn_down", nullptr}};

}  // namespace

Config translate_config(std::string_view json, const std::string& name) { return Translation(json, name).run(); }

// "model.layers.7.mlp.up_proj.bias" -> "blk.7.ffn_up.bias". In a multimodal model the language model has a prefix.
std::string translate_name(const std::string& architecture, const std::string& name) {
  const bool gemma = architecture == "gemma3";
  const std::string seen = gemma ? "" : translate_vision_name(name);
  if (!seen.empty()) return seen;
  std::string plain = name;
  std::string_view rest = name;
  if (drop_prefix(&rest, "model.language_model.")) {
    plain = "model." + std::string(rest);
  } else if (drop_prefix(&rest, "language_model.")) {
    plain = std::string(rest);
  }
  if (const char* to = look_up(kOutside, sizeof kOutside / sizeof *kOutside, plain, gemma)) return to;
  rest = plain;
  if (!drop_prefix(&rest, "model.layers.")) return name;
  const std::string inner = translate_in_layer(kInLayer, sizeof kInLayer / sizeof *kInLayer, rest, gemma);
  return inner.empty() ? name : "blk." + inner;
}

}  // namespace tokensieve::formats
