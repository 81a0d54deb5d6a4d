"""Small towers with random weights and what PyTorch makes of them, for the tests of the native tower.

    python fixtures.py FOLDER

Each NAME.gguf has its NAME.json (shapes, and where each array begins, in values) and NAME.f32 (the arrays, little
endian, in order), computed in float64:

    pixels          [3, image, image]            normalised, as the tower takes them
    hidden          [layers + 1, tokens, width]  after positions (and the first norm), then after each layer
    features        [tokens, width]              what comes out: the last of hidden, or its norm
    keys            [layers, tokens, width]      heads side by side
    attentionMean   [layers, heads, tokens]      what each token gets from all, on average
    classAttention  [layers, heads, tokens]      what the class token gives to each
    projected       [rows, 32]                   patches alone, after the projector
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch

from mmproj import write_mmproj
from tower import Projector, Tower, TowerShape

F32, F16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SMALL = dict(image=24, patch=6, width=32, layers=2, heads=2, hidden=48)

CASES = {
    # As in LLaVA-1.5: class token, a norm before, none after, quick GELU; more than one head of 32.
    "clip": (TowerShape(24, 6, 64, 1, 2, 64, pre_norm=True, activation="gelu_quick"), dict(kind="mlp", hidden=48), F16),
    # As in SmolVLM: no class token, a norm after, a bias for patches, tanh GELU, four patches to one row.
    "siglip": (
        TowerShape(**SMALL, class_token=False, post_norm=True, patch_bias=True, epsilon=1e-6),
        dict(kind="idefics3", hidden=0, scale=2),
        F16,
    ),
    # As the embedded model: class token, no outer norms, tanh GELU, a norm before the projector.
    "embedded": (TowerShape(**SMALL), dict(kind="mlp", hidden=48, input_norm=True), F16),
    # All outer norms, exact GELU, one linear layer as the projector, stored in F32.
    "linear": (
        TowerShape(**{**SMALL, "layers": 1}, pre_norm=True, post_norm=True, activation="gelu_erf"),
        dict(kind="linear", hidden=0),
        F32,
    ),
}


def randomize(module, stored):
    """Weights with which every part matters, rounded to what the file holds."""
    for name, p in module.named_parameters():
        values = torch.randn(p.shape)
        if p.ndim == 2 and "position" not in name:
            values *= p.shape[1] ** -0.5
            values *= 2.0 if "attn_q" in name or "attn_k" in name else 1.0
        else:
            values *= 0.3
            if name.endswith("weight") and p.ndim == 1:
                values += 1
        if stored == F16 and p.ndim == 2 and "position" not in name:
            values = values.half().float()
        p.data.copy_(values)


def run(tower, projector):
    shape = tower.shape
    pixels = torch.randn(1, 3, shape.image, shape.image)
    trace = {}
    with torch.no_grad():
        rows = tower.double()(pixels.double(), trace)
        projected = projector.double()(tower.without_class(rows))
    arrays = {"pixels": pixels[0]}
    arrays["hidden"] = torch.stack(trace["hidden"])[:, 0]
    arrays["features"] = rows[0]
    arrays["keys"] = torch.stack(trace["keys"])[:, 0]
    arrays["attentionMean"] = torch.stack(trace["attention"])[:, 0].mean(2)
    if shape.class_token:
        arrays["classAttention"] = torch.stack(trace["attention"])[:, 0, :, 0]
    arrays["projected"] = projected[0]
    tower.float(), projector.float()
    return arrays


def main(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, (shape, projector, stored)) in enumerate(CASES.items()):
        torch.manual_seed(seed + 1)
        tower, projector = Tower(shape), Projector(width=shape.width, out=32, **projector)
        randomize(tower, stored), randomize(projector, stored)
        arrays = run(tower, projector)
        write_mmproj(folder / f"{name}.gguf", tower, projector, stored, f"fixture {name}", MEAN, STD)
        at, index = 0, {}
        with open(folder / f"{name}.f32", "wb") as out:
            for key, values in arrays.items():
                data = values.numpy().astype("<f4")
                index[key] = {"shape": list(data.shape), "offset": at}
                at += data.size
                out.write(data.tobytes())
        about = {"activation": shape.activation, "projector": projector.kind, "classToken": shape.class_token}
        lines = ",\n".join(f'    "{key}": {json.dumps(value)}' for key, value in index.items())
        head = "".join(f'  "{key}": {json.dumps(value)},\n' for key, value in about.items())
        (folder / f"{name}.json").write_text(f'{{\n{head}  "arrays": {{\n{lines}\n  }}\n}}\n')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
