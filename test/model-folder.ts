// How Hugging Face's folders write what model-fixture.ts makes.
import { type TinyConfig, VOCABULARY } from './model-fixture.js'

export function folderName(name: string, { architecture }: TinyConfig): string {
  const outside: Record<string, string> = {
    'token_embd.weight': 'model.embed_tokens.weight',
    'output_norm.weight': 'model.norm.weight',
    'output.weight': 'lm_head.weight',
  }
  const gemma = architecture === 'gemma3'
  const inside: Record<string, string> = {
    attn_norm: 'input_layernorm',
    attn_q: 'self_attn.q_proj',
    attn_k: 'self_attn.k_proj',
    attn_v: 'self_attn.v_proj',
    attn_output: 'self_attn.o_proj',
    attn_q_norm: 'self_attn.q_norm',
    attn_k_norm: 'self_attn.k_norm',
    post_attention_norm: 'post_attention_layernorm',
    ffn_norm: gemma ? 'pre_feedforward_layernorm' : 'post_attention_layernorm',
    post_ffw_norm: 'post_feedforward_layernorm',
    ffn_gate: 'mlp.gate_proj',
    ffn_up: 'mlp.up_proj',
    ffn_down: 'mlp.down_proj',
  }
  const [, layer, part = '', kind] = /^blk\.(\d+)\.(\w+)\.(\w+)$/.exec(name) ?? []
  return layer === undefined ? (outside[name] ?? name) : `model.layers.${layer}.${inside[part]}.${kind}`
}

export function folderConfig(config: TinyConfig): object {
  const {
    architecture,
    context,
    feedForward,
    headSize,
    heads,
    hidden,
    kvHeads,
    layers,
    period,
    scaling,
    tied,
    vocabulary,
    window,
  } = config
  const gemma = architecture === 'gemma3'
  return {
    model_type: gemma ? 'gemma3_text' : 'llama',
    num_hidden_layers: layers,
    hidden_size: hidden,
    intermediate_size: feedForward,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headSize,
    max_position_embeddings: context,
    rms_norm_eps: 1e-5,
    vocab_size: vocabulary,
    tie_word_embeddings: tied,
    rope_theta: gemma ? 1e6 : 10000,
    ...(gemma && {
      sliding_window: window,
      sliding_window_pattern: period,
      query_pre_attn_scalar: headSize,
      rope_local_base_freq: 10000,
    }),
    ...(scaling && { rope_scaling: folderScaling(scaling) }),
  }
}

function folderScaling(scaling: NonNullable<TinyConfig['scaling']>): object {
  if (scaling.type === 'linear') return { rope_type: 'linear', factor: scaling.factor }
  if (scaling.type === 'dynamic')
    return { rope_type: 'dynamic', factor: scaling.factor, original_max_position_embeddings: scaling.original }
  const { factor, high, low, original } = scaling
  return {
    rope_type: 'llama3',
    factor,
    low_freq_factor: low,
    high_freq_factor: high,
    original_max_position_embeddings: original,
  }
}

export function folderTokenizer(): object {
  const { merges, special, tokens } = VOCABULARY
  return {
    added_tokens: special.map((content, id) => ({ id, content, special: true })),
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { type: 'ByteLevel', add_prefix_space: false },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges },
  }
}
