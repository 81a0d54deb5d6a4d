"""The rows of a picture begin as words: a projected patch of an object scores highest for what the object is.

Says what is in a patch, never which patches to look at. It spares the decoder from finding out what the directions of
the tower mean, and lets attention match words of a question with patches from the first step on.
"""

import numpy as np
import torch
from torch.nn import functional as F

import words
from questions import COLUMNS, ROWS
from scenes import COLOR_NAMES, LETTERS, SHAPES, SIZE, SIZES

GROUPS = {
    "color": COLOR_NAMES,
    "shape": SHAPES,
    "size": SIZES,
    "letter": (*LETTERS, "nothing"),
    "row": ROWS,
    "column": COLUMNS,
}
IDS = {name: torch.tensor([words.ID[f" {w}"] for w in group]) for name, group in GROUPS.items()}
OBJECT = words.ID[" object"]


def truth(scenes, patch=14):
    """{group: [pictures, 144] the word, -1 where no object is}, and the patch that holds an object's centre as 1."""
    out, middle, side = {name: [] for name in GROUPS}, [], SIZE // patch
    for s in scenes:
        owner, things = s.patches(), s.things
        pick = lambda values: np.append(np.array(values, np.int64), -1)[owner]
        out["color"].append(pick([t.color for t in things]))
        out["shape"].append(pick([t.shape for t in things]))
        out["size"].append(pick([t.size for t in things]))
        out["letter"].append(pick([t.letter % len(GROUPS["letter"]) for t in things]))
        out["row"].append(pick([t.cell() // 3 for t in things]))
        out["column"].append(pick([t.cell() % 3 for t in things]))
        at = np.zeros(side * side, np.float32)
        at[[t.y // patch * side + t.x // patch for t in things]] = 1
        middle.append(at)
    return {name: torch.from_numpy(np.stack(v)) for name, v in out.items()}, torch.from_numpy(np.stack(middle))


def alignment(logits, scenes):
    """logits [pictures, 144, vocabulary] of the projected patches -> the loss and the share of right words"""
    named, middle = truth(scenes)
    on = named["color"] >= 0
    loss, good = F.binary_cross_entropy_with_logits(logits[..., OBJECT], middle), []
    for name, ids in IDS.items():
        found, true = logits[on][:, ids], named[name][on]
        loss = loss + F.cross_entropy(found, true) / len(IDS)
        good.append(float((found.argmax(-1) == true).float().mean()))
    return loss, float(np.mean(good))
