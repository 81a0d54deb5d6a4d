"""Stage 2: projector and decoder learn to answer; the tower is that of stage 1 and stays as it is.

    python train_language.py --tower STAGE1/last.pt|NAME --out FOLDER [--steps 3000] [--ground 1]

Goes on where FOLDER/last.pt left off. `--ground 0`: no layer is ever told where to look.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from align import alignment
from batches import by_type, fresh, right
from checkpoint import from_gguf
from decoder import Decoder
from muon import Optimizer
from questions import TYPES
from scenes import scene
from tower import Projector, Tower, TowerShape
from train_vision import to_pixels
from workers import launch, rate

GROUNDED = (1, 2)  # layers, from 0


def load_tower(path):
    """The tower, and the norm of its patches: of stage 1, or as an exported NAME (NAME.mmproj.gguf) holds them."""
    if not path.endswith(".pt"):
        tower, model = from_gguf(f"{path}.gguf", f"{path}.mmproj.gguf")
        return tower.requires_grad_(False), model["projector"].input_norm.state_dict()
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
    """How often each type is asked: by what it still gets wrong."""

    def __init__(self, types=TYPES):
        self.good = {kind: 0.2 for kind in types}

    def now(self, relation=0.0, count=1.0):
        """`relation`: its weight, whatever it gets wrong; it stays at chance where the others are learned."""
        shares = {kind: 0.1 + (1 - good) for kind, good in self.good.items()}
        if "relation" in shares:
            shares["relation"] = relation
        if "count" in shares:
            shares["count"] *= count
        return shares

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
        aligning = step < a.align_steps
        parts = (a, rng, tower, model, run)
        losses = align_step(*parts) if aligning else step_of(*parts, step, weights)
        sum(losses["sum"]).backward()
        now = 2.5 * rate(step, 10**9, 0) if aligning else rate(step - a.align_steps, a.steps - a.align_steps, a.flat)
        optimizer.step(a.muon * now, a.adam * now)
        step += 1
        note(seen, losses)
        if step % 20 == 0:
            report(run, seen, step, a.pictures)
            seen = {}
        run.save(keep)
    run.save(keep, force=True)


def align_step(a, rng, tower, model, run):
    scenes = [scene(rng, 2, 8) for _ in range(2 * a.pictures // run.world)]
    loss, good = alignment(model["decoder"].logits(model["projector"](features(tower, scenes))).float(), scenes)
    return {"sum": [loss], "aligned": [good], "align": [float(loss.detach())]}


def step_of(a, rng, tower, model, run, step, weights):
    """The losses of one batch, and by type which questions were answered right."""
    most = min(6, 2 + int(5 * (step - a.align_steps) / max(1, a.ramp)))
    batch = fresh(rng, a.pictures // run.world, a.questions, weights.now(a.relation, a.count), most)
    ground = a.ground * fade(step, a.ground_from, a.ground_until)
    align = a.align * fade(step, a.align_steps, a.align_until)
    image, decoder = model["projector"](features(tower, batch.scenes)), model["decoder"]
    rows, looks = decoder(image, batch.questions, GROUNDED if ground > 0 else (), -4 * fade(step, 0, a.calm_until))
    logits = decoder.logits(rows[batch.heads]).float()
    loss = (F.cross_entropy(logits, batch.targets, reduction="none") * batch.shares).sum() / batch.shares.sum()
    parts, out = [loss], {"loss": [float(loss.detach())], "most": [most]}
    if ground > 0:
        told = grounding(batch, looks)
        parts.append(ground * told)
        out["grounding"] = [float(told.detach())]
    if align > 0:
        words, out["aligned"] = alignment(decoder.logits(image).float(), batch.scenes)
        parts.append(align * words)
        out["aligned"] = [out["aligned"]]
    found = by_type(batch, right(batch, logits))
    weights.learn(found)
    return {"sum": parts, **out, **found}


def fade(step, begin, end):
    """1 until `begin`, then in a line to 0 at `end`."""
    return min(1.0, max(0.0, (end - step) / max(1, end - begin)))


def note(seen, losses):
    for name, values in losses.items():
        if name != "sum":
            seen.setdefault(name, []).extend(values)


def report(run, seen, step, pictures):
    mean = {name: float(np.mean(values)) for name, values in seen.items() if values}
    asked = [mean[kind] for kind in TYPES if kind in mean and kind != "relation"]
    if asked:
        mean["macro"] = float(np.mean(asked))
    run.log(step=step, pictures=step * pictures, **mean)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tower", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--flat", type=float, default=0.35, help="share of the steps at the full rate")
    parser.add_argument("--pictures", type=int, default=12, help="a step, of all processes")
    parser.add_argument("--questions", type=int, default=24, help="a picture")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--ground", type=float, default=1.0)
    parser.add_argument("--ground-from", type=int, default=200)
    parser.add_argument("--ground-until", type=int, default=500)
    parser.add_argument("--calm-until", type=int, default=400)
    parser.add_argument("--align", type=float, default=0.3, help="weight of the words of patches beside the answers")
    parser.add_argument("--align-steps", type=int, default=100, help="steps with nothing else, before")
    parser.add_argument("--align-until", type=int, default=1500)
    parser.add_argument("--ramp", type=int, default=200, help="steps until scenes have six objects")
    parser.add_argument("--relation", type=float, default=0.0, help="how often relations are asked")
    parser.add_argument("--count", type=float, default=1.0, help="how much oftener counts are asked than their errors say")
    parser.add_argument("--muon", type=float, default=0.004)
    parser.add_argument("--adam", type=float, default=6e-4)
    parser.add_argument("--seed", type=int, default=2)
    launch(train, parser.parse_args())
