"""Stage 1: the tower learns what each patch shows, and its class token what the picture holds.

    python train_vision.py --out FOLDER [--steps 1500] [--processes 2]     goes on where FOLDER/last.pt left off
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from muon import Optimizer
from scenes import COLORS, LETTERS, SHAPES, SIZE, scene
from tower import Tower, TowerShape, norm, start
from workers import launch, rate

MEAN, STD = 0.75, 0.25
SIDE = 12
# What a linear layer must read from a patch of an object: name -> number of answers. `column` and `row` are the
# patch where the object's centre is, `cell` the part of the picture in words.
HEADS = {"color": len(COLORS), "letter": len(LETTERS) + 1, "size": 2, "column": SIDE, "row": SIDE, "cell": 9}
PRESENT = len(SHAPES) + len(COLORS) + len(LETTERS) + len(SHAPES) * len(COLORS)


def to_pixels(scenes, dtype=torch.bfloat16):
    stacked = torch.from_numpy(np.stack([s.pixels for s in scenes])).permute(0, 3, 1, 2)
    return ((stacked.float() / 255 - MEAN) / STD).to(dtype)


class Heads(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.patch_norm, self.class_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.middle = nn.Linear(width, 1)
        self.centre = nn.Linear(width, 2)
        self.answers = nn.ModuleDict({name: nn.Linear(width, n) for name, n in HEADS.items()})
        self.present = nn.Linear(width, PRESENT)

    def forward(self, rows, labels):
        """The loss, and which answers were right."""
        patches = norm(rows[:, 1:], self.patch_norm).float()
        first = norm(rows[:, 0], self.class_norm).float()
        shape = self.shape(patches)
        on = labels["shape"] < len(SHAPES)
        losses = {"shape": F.cross_entropy(shape.flatten(0, 1), labels["shape"].flatten())}
        right = {"shape": (shape.argmax(-1) == labels["shape"])[on]}
        things = patches[on]
        for name, head in self.answers.items():
            found = head(things)
            losses[name] = F.cross_entropy(found, labels[name][on])
            right[name] = found.argmax(-1) == labels[name][on]
        losses["middle"] = F.binary_cross_entropy_with_logits(self.middle(patches)[..., 0], labels["middle"])
        losses["centre"] = 4 * (self.centre(things) - labels["centre"][on]).abs().mean()
        losses["present"] = 2 * F.binary_cross_entropy_with_logits(self.present(first), labels["present"])
        losses["column"], losses["row"], losses["cell"] = (losses[n] / 2 for n in ("column", "row", "cell"))
        return losses, right


def label(scenes):
    """Answers for each patch [pictures, 144]; objects' answers are 0 where there is none."""
    out = {name: [] for name in ("shape", *HEADS, "middle", "centre", "present")}
    patch = SIZE // SIDE
    column, row = np.arange(SIDE**2) % SIDE, np.arange(SIDE**2) // SIDE
    for s in scenes:
        owner, t = s.patches(), s.things
        pick = lambda values, none=0: np.append(np.array(values, np.int64), none)[owner]
        x, y = np.append([o.x for o in t], 0)[owner] / patch, np.append([o.y for o in t], 0)[owner] / patch
        out["shape"].append(pick([o.shape for o in t], len(SHAPES)))
        out["color"].append(pick([o.color for o in t]))
        out["letter"].append(pick([o.letter + 1 for o in t]))
        out["size"].append(pick([o.size for o in t]))
        out["column"].append(pick([o.x // patch for o in t]))
        out["row"].append(pick([o.y // patch for o in t]))
        out["cell"].append(pick([o.cell() for o in t]))
        out["middle"].append(((x.astype(int) == column) & (y.astype(int) == row) & (owner >= 0)).astype(np.float32))
        out["centre"].append(np.stack([x - column - 0.5, y - row - 0.5], 1).astype(np.float32) / 2)
        out["present"].append(presence(t))
    return {name: torch.from_numpy(np.stack(values)) for name, values in out.items()}


def presence(things):
    sizes = (len(SHAPES), len(COLORS), len(LETTERS))
    at = np.zeros(PRESENT, np.float32)
    for o in things:
        at[o.shape] = at[sizes[0] + o.color] = 1
        if o.letter >= 0:
            at[sizes[0] + sizes[1] + o.letter] = 1
        at[sum(sizes) + o.shape * len(COLORS) + o.color] = 1
    return at


def train(run, arguments):
    torch.manual_seed(arguments.seed)
    tower = start(Tower(TowerShape()))
    model = nn.ModuleDict({"tower": tower, "heads": Heads(tower.shape.width)})
    muon = lambda name, p: p.ndim == 2 and name.startswith("tower.") and "position" not in name
    optimizer = Optimizer(model.named_parameters(), muon, run.rank, run.world)
    step = 0
    saved = run.resume()
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load(saved["optimizer"])
        step = saved["step"]
    keep = lambda: {"model": model.state_dict(), "optimizer": optimizer.state(), "step": step}
    seen, batch = {}, arguments.pictures // run.world
    while step < arguments.steps:
        rng = np.random.default_rng((arguments.seed, run.rank, step))
        scenes = [scene(rng, 4, 9, rng.uniform(0.55, 0.75)) for _ in range(batch)]
        losses, right = model["heads"](tower(to_pixels(scenes)), label(scenes))
        sum(losses.values()).backward()
        now = rate(step, arguments.steps, 0.4)
        optimizer.step(0.02 * now, 3e-3 * now)
        step += 1
        note(seen, losses, right)
        if step % 20 == 0:
            mean = {name: float(np.mean(values)) for name, values in seen.items()}
            run.log(step=step, pictures=step * arguments.pictures, **mean)
            seen = {}
        run.save(keep)
    run.save(keep, force=True)


def note(seen, losses, right):
    """Collects a step's figures: accuracies by name, losses of what has none."""
    for name, values in right.items():
        seen.setdefault(name, []).append(float(values.float().mean()))
    for name in ("middle", "centre", "present"):
        seen.setdefault(f"loss_{name}", []).append(float(losses[name].detach()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--pictures", type=int, default=16, help="a step, of all processes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    launch(train, parser.parse_args())
