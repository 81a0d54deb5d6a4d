"""Writes tower and projector as an mmproj GGUF, with the keys and tensor names of llama.cpp's converter for LLaVA.

Ours, where that converter has no name: `mm.input_norm.{weight,bias}` (a LayerNorm before the projector) and
`clip.use_gelu_erf` (the exact GELU in the tower, with `clip.use_gelu` true as well).
"""

import gguf
import numpy as np


def array(tensor):
    return np.ascontiguousarray(tensor.detach().float().numpy())


def quantized(values, kind):
    """Values as stored in `kind` (a gguf.GGMLQuantizationType); rows that do not fill blocks of 32 stay in F16."""
    if values.ndim < 2 or kind == gguf.GGMLQuantizationType.F32:
        return values.astype(np.float32), gguf.GGMLQuantizationType.F32
    if kind == gguf.GGMLQuantizationType.F16 or values.shape[-1] % 32 != 0:
        return values.astype(np.float16), gguf.GGMLQuantizationType.F16
    return gguf.quants.quantize(values, kind), kind


def add(writer, name, values, kind):
    data, stored = quantized(values, kind)
    writer.add_tensor(name, data, raw_dtype=stored)


def add_layer(writer, name, layer, kind):
    add(writer, f"{name}.weight", array(layer.weight), kind)
    if layer.bias is not None:
        add(writer, f"{name}.bias", array(layer.bias), kind)


def write_mmproj(path, tower, projector, kind, name, mean, std, aspect=None):
    shape = tower.shape
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_type("mmproj")
    writer.add_name(name)
    writer.add_license("MIT")
    writer.add_file_type({0: 0, 1: 1, 8: 7}[int(kind)])
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "idefics3" if projector.kind == "idefics3" else "mlp")
    if projector.kind == "idefics3":
        writer.add_uint32("clip.vision.projector.scale_factor", projector.scale)
    writer.add_bool("clip.use_gelu", shape.activation != "gelu_quick")
    if shape.activation == "gelu_erf":
        writer.add_bool("clip.use_gelu_erf", True)
    last = {"mlp": "second", "linear": "first", "idefics3": "fc"}[projector.kind]
    for key, value in {
        "image_size": shape.image,
        "patch_size": shape.patch,
        "embedding_length": shape.width,
        "feed_forward_length": shape.hidden,
        "projection_dim": getattr(projector, last).out_features,
        "block_count": shape.layers,
        "attention.head_count": shape.heads,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", shape.epsilon)
    writer.add_array("clip.vision.image_mean", [float(x) for x in mean])
    writer.add_array("clip.vision.image_std", [float(x) for x in std])
    if aspect:
        writer.add_string("clip.vision.image_aspect_ratio", aspect)
    add_tower(writer, tower, kind)
    add_projector(writer, projector, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tower(writer, tower, kind):
    shape = tower.shape
    f32 = gguf.GGMLQuantizationType.F32
    small = f32 if kind == f32 else gguf.GGMLQuantizationType.F16
    kernel = array(tower.patch_embd.weight).reshape(shape.width, 3, shape.patch, shape.patch)
    add(writer, "v.patch_embd.weight", kernel, small)
    if shape.patch_bias:
        add(writer, "v.patch_embd.bias", array(tower.patch_embd.bias), f32)
    if shape.class_token:
        add(writer, "v.class_embd", array(tower.class_embd), f32)
    add(writer, "v.position_embd.weight", array(tower.position_embd), f32)
    if shape.pre_norm:
        add_layer(writer, "v.pre_ln", tower.pre_ln, f32)
    for i, layer in enumerate(tower.blk):
        for part in ("ln1", "attn_q", "attn_k", "attn_v", "attn_out", "ln2", "ffn_up", "ffn_down"):
            add_layer(writer, f"v.blk.{i}.{part}", getattr(layer, part), kind)
    if shape.post_norm:
        add_layer(writer, "v.post_ln", tower.post_ln, f32)


def add_projector(writer, projector, kind):
    if hasattr(projector, "input_norm"):
        add_layer(writer, "mm.input_norm", projector.input_norm, kind)
    if projector.kind == "idefics3":
        add_layer(writer, "mm.model.fc", projector.fc, kind)
        return
    add_layer(writer, "mm.0", projector.first, kind)
    if projector.kind == "mlp":
        add_layer(writer, "mm.2", projector.second, kind)
