// Gemma 3 (text): sandwich norms, QK norm, GeGLU, embedding scaled by sqrt(hidden), five sliding-window layers to one full, each kind with its own rotary base. arXiv 2503.19786
#include <cmath>

#include "core/error.h"
#include "engine/loader.h"

namespace tokensieve {

namespace {

// 0: full rotary and attention, 1: sliding. The kth layer of every period is full (GGUF has no key for the period of this family: 6).
int layer_kind(int layer, int period) { return (layer + 1) % period == 0 ? 0 : 1; }

void read_attention(Loader& loader, Layer& layer, int l) {
  const Config& c = loader.model().config;
  const int q = c.heads * c.head_size, kv = c.kv_heads * c.head_size;
  layer.attention_norm = loader.vector(loader.block(l, "attn_norm.weight"), c.hidden, false, true);
  layer.post_attention_norm = loader.vector(loader.block(l, "post_attention_norm.weight"), c.hidden, false, true);
  layer.q_norm = loader.vector(loader.block(l, "attn_q_norm.weight"), c.head_size, false, true);
  layer.k_norm = loader.vector(loader.block(l, "attn_k_norm.weight"), c.head_size, false, true);
  layer.qkv = loader.linear({{loader.block(l, "attn_q"), q, nullptr},
                             {loader.block(l, "attn_k"), kv, nullptr},
                             {loader.block(l, "attn_v"), kv, nullptr}},
                            c.hidden);
  layer.output = loader.linear({{loader.block(l, "attn_output"), c.hidden, nullptr}}, q);
}

void read_feed_forward(Loader& loader, Layer& layer, int l) {
  const Config& c = loader.model().config;
  layer.feed_forward_norm = loader.vector(loader.block(l, "ffn_norm.weight"), c.hidden, false, true);
  layer.post_feed_forward_norm = loader.vector(loader.block(l, "post_ffw_norm.weight"), c.hidden, false, true);
  layer.gate_up = loader.gated({loader.block(l, "ffn_gate"), c.feed_forward, nullptr},
                               {loader.block(l, "ffn_up"), c.feed_forward, nullptr}, c.hidden);
  layer.down = loader.linear({{loader.block(l, "ffn_down"), c.hidden, nullptr}}, c.feed_forward);
}

}  // namespace

void describe_gemma3(Loader& loader) {
  read_sizes(loader);
  Model& m = loader.model();
  Config& c = m.config;
  const Weights& w = loader.weights();
  c.activation = kernels::Activation::gelu_tanh;
  c.embedding_scale = std::sqrt(static_cast<float>(c.hidden));
  // The 62-layer model scales by hidden / heads instead of the head size, which its GGUF does not say.
  const double usual = 1 / std::sqrt(c.layers == 62 ? static_cast<double>(c.hidden) / c.heads : c.head_size);
  const double scale = get_double(w, loader.key("attention.scale"), usual);
  if (!(scale > 0)) throw Error(Code::file_format, "[config] expected a positive attention.scale");
  c.attention_scale = static_cast<float>(scale);

  Rotary full, sliding;
  full.rotated = sliding.rotated = c.head_size;
  full.base = get_double(w, loader.key("rope.freq_base"), 1e6);
  sliding.base = get_double(w, loader.key("rope.freq_base_swa"), 1e4);
  if (get_string(w, loader.key("rope.scaling.type"), "none") == "linear")
    full.linear = get_double(w, loader.key("rope.scaling.factor"), 1);
  if (!(full.base > 1) || !(sliding.base > 1) || !(full.linear > 0))
    throw Error(Code::file_format, "[config] expected rope bases above 1 and a positive scaling factor");
  m.rotaries = {full, sliding};

  const int window = static_cast<int>(get_int(w, loader.key("attention.sliding_window"), 1, 1 << 30, 512));
  const int period = static_cast<int>(get_int(w, loader.key("attention.sliding_window_pattern"), 1, 1024, 6));
  for (int l = 0; l < c.layers; l++) {
    loader.place(m.device(l));
    Layer layer;
    layer.rotary = layer_kind(l, period);
    layer.window = layer.rotary == 1 ? window : 0;
    read_attention(loader, layer, l);
    read_feed_forward(loader, layer, l);
    m.layers.push_back(std::move(layer));
  }
  read_ends(loader, true);
}

}  // namespace tokensieve
