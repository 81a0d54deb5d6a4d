"""Writes a trained model as two files: NAME.gguf (the decoder) and NAME.mmproj.gguf (tower and projector).

    python export.py FOLDER/last.pt NAME [--type q8_0|f16|f32]
"""

import argparse

import gguf
import torch

import words
from checkpoint import from_training, pairs_together
from mmproj import add, array, write_mmproj
from train_vision import MEAN, STD

KINDS = {name: gguf.GGMLQuantizationType[name.upper()] for name in ("q8_0", "f16", "f32")}
NORMAL, CONTROL = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL


def write_decoder(path, decoder, kind, name):
    s = decoder.shape
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_type("model")
    writer.add_name(name)
    writer.add_license("MIT")
    writer.add_file_type({0: 0, 1: 1, 8: 7}[int(kind)])
    writer.add_context_length(2048)
    writer.add_embedding_length(s.width)
    writer.add_block_count(s.layers)
    writer.add_feed_forward_length(s.hidden)
    writer.add_head_count(s.heads)
    writer.add_head_count_kv(s.kv_heads)
    writer.add_key_length(s.size)
    writer.add_value_length(s.size)
    writer.add_rope_dimension_count(s.size)
    writer.add_rope_freq_base(s.base)
    writer.add_layer_norm_rms_eps(s.epsilon)
    add_tokenizer(writer)
    add_weights(writer, decoder, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer):
    tokens = words.tokens()
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if i < len(words.SPECIAL) else NORMAL for i in range(len(tokens))])
    writer.add_token_merges(["\u0120 a"])  # whole words are looked up first; a list may not be empty
    writer.add_bos_token_id(words.BOS)
    writer.add_eos_token_id(words.EOS)
    writer.add_pad_token_id(words.PAD)
    writer.add_add_bos_token(True)
    writer.add_chat_template(words.TEMPLATE)
    writer.add_uint32("tokensieve.image_token_id", words.IMAGE)


def add_weights(writer, decoder, kind):
    f32 = KINDS["f32"]
    embed = decoder.token_embd
    same = [embed[words.ID[f" {word}"]] for _, word in words.ALIASES]
    add(writer, "token_embd.weight", array(torch.cat([embed, torch.stack(same)])), kind)
    for i, layer in enumerate(decoder.blk):
        for name, values in layer.state_dict().items():
            if name.startswith(("attn_q", "attn_k")):
                values = pairs_together(values, decoder.shape.size)
            whole = name if name.endswith(".weight") else f"{name}.weight"
            add(writer, f"blk.{i}.{whole}", array(values), kind if values.ndim == 2 else f32)
    add(writer, "output_norm.weight", array(decoder.output_norm), f32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("name", help="path without .gguf")
    parser.add_argument("--type", choices=KINDS, default="q8_0")
    parser.add_argument("--title", default="tokensieve vlm")
    a = parser.parse_args()
    tower, model, _ = from_training(a.checkpoint)
    write_decoder(f"{a.name}.gguf", model["decoder"], KINDS[a.type], a.title)
    mean, std = [MEAN] * 3, [STD] * 3
    write_mmproj(f"{a.name}.mmproj.gguf", tower, model["projector"], KINDS[a.type], a.title, mean, std, "square")


if __name__ == "__main__":
    main()
