// Llama: pre-norm decoder, grouped-query attention with rotary positions (linear, dynamic NTK or llama3 scaling), SwiGLU. arXiv 2302.13971, 2307.09288, 2407.21783
#include "core/error.h"
#include "engine/loader.h"

namespace tokensieve {

namespace {

Rotary read_rotary(Loader& loader) {
  const Weights& w = loader.weights();
  const Config& c = loader.model().config;
  Rotary r;
  r.base = get_double(w, loader.key("rope.freq_base"), 10000);
  r.rotated = static_cast<int>(get_int(w, loader.key("rope.dimension_count"), 2, c.head_size, c.head_size));
  if (r.rotated % 2 != 0 || !(r.base > 1))
    throw Error(Code::file_format, "[config] expected an even rope.dimension_count and a rope.freq_base above 1");
  const std::string type = get_string(w, loader.key("rope.scaling.type"), "none");
  const double factor = get_double(w, loader.key("rope.scaling.factor"), 1);
  if (!(factor > 0)) throw Error(Code::file_format, "[config] expected a positive rope.scaling.factor");
  if (type == "linear") {
    r.linear = factor;
  } else if (type == "dynamic") {
    r.dynamic = factor;
    r.trained = static_cast<int>(get_int(w, loader.key("rope.scaling.original_context_length"), 1, 1 << 30, c.context));
  } else if (type != "none" && type != "llama3") {
    throw Error(Code::unsupported,
                "[config] expected rope scaling none, linear, dynamic or llama3, got \"" + type.substr(0, 60) + "\"");
  }
  if (find_tensor(w, "rope_freqs.weight", {r.rotated / 2}) != nullptr) {
    const float* factors = loader.vector("rope_freqs.weight", r.rotated / 2);
    r.factors.assign(factors, factors + r.rotated / 2);
  }
  return r;
}

}  // namespace

void describe_llama(Loader& loader) {
  read_sizes(loader);
  Model& m = loader.model();
  const Config& c = m.config;
  m.rotaries.push_back(read_rotary(loader));
  if (get_int(loader.weights(), loader.key("expert_count"), 0, 1 << 20, 0) > 0)
    throw Error(Code::unsupported, "[config] mixtures of experts are not supported");

  const int q = c.heads * c.head_size, kv = c.kv_heads * c.head_size;
  const std::vector<int32_t>* q_order = loader.rotary_order(c.heads, c.head_size, m.rotaries[0].rotated);
  const std::vector<int32_t>* k_order = loader.rotary_order(c.kv_heads, c.head_size, m.rotaries[0].rotated);
  for (int l = 0; l < c.layers; l++) {
    loader.place(m.device(l));
    Layer layer;
    layer.attention_norm = loader.vector(loader.block(l, "attn_norm.weight"), c.hidden);
    layer.qkv = loader.linear({{loader.block(l, "attn_q"), q, q_order},
                               {loader.block(l, "attn_k"), kv, k_order},
                               {loader.block(l, "attn_v"), kv, nullptr}},
                              c.hidden);
    layer.output = loader.linear({{loader.block(l, "attn_output"), c.hidden, nullptr}}, q);
    layer.feed_forward_norm = loader.vector(loader.block(l, "ffn_norm.weight"), c.hidden);
    layer.gate_up = loader.gated({loader.block(l, "ffn_gate"), c.feed_forward, nullptr},
                                 {loader.block(l, "ffn_up"), c.feed_forward, nullptr}, c.hidden);
    layer.down = loader.linear({{loader.block(l, "ffn_down"), c.hidden, nullptr}}, c.feed_forward);
    m.layers.push_back(std::move(layer));
  }
  read_ends(loader, false);
}

}  // namespace tokensieve
