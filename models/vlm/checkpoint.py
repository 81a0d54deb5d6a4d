"""Models from what was trained or exported: projector and decoder ready to answer."""

import gguf
import torch
from gguf import GGUFReader
from torch import nn

from decoder import Decoder
from tower import Projector, Tower, TowerShape
from words import SIZE, tokens

WIDTH = TowerShape().width


def empty():
    projector = Projector("mlp", WIDTH, 2 * WIDTH, WIDTH, input_norm=True)
    return Tower(TowerShape()), nn.ModuleDict({"projector": projector, "decoder": Decoder()})


def from_training(path):
    """FOLDER/last.pt of stage 2 -> (tower, {projector, decoder}, the state)"""
    state = torch.load(path, weights_only=False)
    tower, model = empty()
    tower.load_state_dict(state["tower"])
    grow(state["model"], model.state_dict(), "decoder.token_embd")
    model.load_state_dict(state["model"])
    return tower, model, state


def grow(state, fresh, name):
    """Words that came later are as they begin."""
    state[name] = torch.cat([state[name], fresh[name][len(state[name]) :]])


def tensors(path):
    read = lambda t: torch.tensor(gguf.quants.dequantize(t.data, t.tensor_type).astype("float32"))
    return {t.name: read(t) for t in GGUFReader(str(path)).tensors}


def words_of(path):
    field = GGUFReader(str(path)).fields["tokenizer.ggml.tokens"]
    return [bytes(field.parts[i]).decode() for i in field.data]


def from_gguf(decoder_path, mmproj_path):
    """What the two files hold after rounding, as float32 modules."""
    tower, model = empty()
    vision, language = tensors(mmproj_path), tensors(decoder_path)
    pieces = {"first": "mm.0", "second": "mm.2", "input_norm": "mm.input_norm"}
    state = {k: vision[f"{pieces[k.rsplit('.', 1)[0]]}.{k.rsplit('.', 1)[1]}"] for k in model["projector"].state_dict()}
    model["projector"].load_state_dict(state)
    named = {"class_embd": "v.class_embd", "position_embd": "v.position_embd.weight"}
    state = {k: vision[named.get(k, f"v.{k}")] for k in tower.state_dict()}
    state["patch_embd.weight"] = state["patch_embd.weight"].reshape(WIDTH, -1)
    tower.load_state_dict(state)
    decoder = model["decoder"]
    state = {}
    for name in decoder.state_dict():
        values = language[name if name.endswith(".weight") else f"{name}.weight"]
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            values = pairs_apart(values, decoder.shape.size)
        state[name] = values
    known = words_of(decoder_path)
    state["token_embd"] = state["token_embd"][[known.index(token) for token in tokens()[:SIZE] if token in known]]
    grow(state, decoder.state_dict(), "token_embd")
    decoder.load_state_dict(state)
    return tower, model


def pairs_together(rows, size):
    """Rows of a rotated projection as llama files order them: those of a pair are neighbours, not half a head apart."""
    return rows.view(-1, 2, size // 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def pairs_apart(rows, size):
    return rows.view(-1, size // 2, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
