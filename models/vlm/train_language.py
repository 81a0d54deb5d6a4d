"""Stage 2: projector and decoder learn to answer; the tower is that of stage 1 and stays as it is.

    python train_language.py --tower STAGE1/last.pt --out FOLDER [--steps 3500] [--ground 1]

Goes on where FOLDER/last.pt left off. `--ground 0` trains the neutral model: no layer is ever told where to look.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from batches import by_type, fresh, right
from decoder import Decoder
from muon import Optimizer
from questions import TYPES
from tower import Projector, Tower, TowerShape
from train_vision import to_pixels
from workers import launch, rate

GROUNDED = (1, 2)  # layers, from 0


def load_tower(path):
    state = torch.load(path, weights_only=False)["model"]
    part = lambda name: {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}
    tower = Tower(TowerShape())
    tower.load_state_dict(part("tower."))
    return tower.requires_grad_(False), part("heads.patch_norm.")


def make(tower_path):
    tower, patch_norm = load_tower(tower_path)
    width = tower.shape.width
    projector = Projector("mlp", width, 2 * width, width, input_norm=True)
    projector.input_norm.load_state_dict(patch_norm)
    return tower, nn.ModuleDict({"projector": projector, "decoder": Decoder()})


def features(tower, scenes):
    with torch.no_grad():
        return tower.without_class(tower(to_pixels(scenes)))


def grounding(batch, seen):
    """Cross entropy between where `<assistant>` looks, over heads, and the patches of the objects asked about."""
    asked = batch.looked.sum(1) > 0
    p, m, at = batch.spots[asked].T
    loss = 0.0
    for shares in seen.values():
        rows = shares[p, :, :, m, at].float().flatten(1, 2)  # [questions, heads, 144]
        rows = rows / rows.sum(-1, keepdim=True).clamp(min=1e-6)
        loss = loss - (batch.looked[asked] * (rows.mean(1) + 1e-6).log()).sum(1).mean()
    return loss / len(seen)


class Weights:
    """How often each type is asked: by what it still gets wrong. `relation` waits until places are known."""

    def __init__(self):
        self.good = {kind: 0.2 for kind in TYPES}

    def now(self):
        weights = {kind: 0.25 + (1 - good) for kind, good in self.good.items()}
        if self.good["where"] < 0.9:
            weights["relation"] = 0.0
        return weights

    def learn(self, found):
        for kind, values in found.items():
            if values:
                self.good[kind] += 0.02 * (float(np.mean(values)) - self.good[kind])


def train(run, a):
    torch.manual_seed(a.seed)
    tower, model = make(a.tower)
    muon = lambda name, p: p.ndim == 2 and "token_embd" not in name
    optimizer = Optimizer(model.named_parameters(), muon, run.rank, run.world)
    weights, step = Weights(), 0
    saved = run.resume()
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load(saved["optimizer"])
        step, weights.good = saved["step"], dict(saved["good"])
    keep = lambda: {
        "model": model.state_dict(),
        "tower": tower.state_dict(),
        "optimizer": optimizer.state(),
        "step": step,
        "good": weights.good,
        "arguments": vars(a),
    }
    seen = {}
    while step < a.steps:
        rng = np.random.default_rng((a.seed, 1000 + run.rank, step))
        most = min(6, 2 + int(5 * step / max(1, a.ramp)))
        batch = fresh(rng, a.pictures // run.world, a.questions, weights.now(), most)
        ground = a.ground * fade(step, a.ground_from, a.ground_until)
        calm = -4 * fade(step, 0, a.calm_until)
        image = model["projector"](features(tower, batch.scenes))
        rows, looks = model["decoder"](image, batch.questions, GROUNDED if ground > 0 else (), calm)
        logits = model["decoder"].logits(rows[batch.heads]).float()
        loss = (F.cross_entropy(logits, batch.targets, reduction="none") * batch.shares).sum() / batch.shares.sum()
        told = grounding(batch, looks) if ground > 0 else loss.new_zeros(())
        (loss + ground * told).backward()
        now = rate(step, a.steps, a.flat)
        optimizer.step(a.muon * now, a.adam * now)
        step += 1
        found = by_type(batch, right(batch, logits))
        weights.learn(found)
        note(seen, found, loss, told)
        if step % 20 == 0:
            report(run, seen, step, a.pictures, most)
            seen = {}
        run.save(keep)
    run.save(keep, force=True)


def fade(step, begin, end):
    """1 until `begin`, then in a line to 0 at `end`."""
    return min(1.0, max(0.0, (end - step) / max(1, end - begin)))


def note(seen, found, loss, told):
    for kind, values in found.items():
        seen.setdefault(kind, []).extend(values)
    seen.setdefault("loss", []).append(float(loss.detach()))
    seen.setdefault("grounding", []).append(float(told.detach()))


def report(run, seen, step, pictures, most):
    mean = {name: float(np.mean(values)) if values else float("nan") for name, values in seen.items()}
    macro = float(np.nanmean([mean[kind] for kind in TYPES if kind != "relation"]))
    run.log(step=step, pictures=step * pictures, most=most, macro=macro, **mean)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tower", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--flat", type=float, default=0.35, help="share of the steps at the full rate")
    parser.add_argument("--pictures", type=int, default=14, help="a step, of all processes")
    parser.add_argument("--questions", type=int, default=16, help="a picture")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--ground", type=float, default=1.0)
    parser.add_argument("--ground-from", type=int, default=300)
    parser.add_argument("--ground-until", type=int, default=1500)
    parser.add_argument("--calm-until", type=int, default=1000)
    parser.add_argument("--ramp", type=int, default=200, help="steps until scenes have six objects")
    parser.add_argument("--muon", type=float, default=0.004)
    parser.add_argument("--adam", type=float, default=6e-4)
    parser.add_argument("--seed", type=int, default=2)
    launch(train, parser.parse_args())
