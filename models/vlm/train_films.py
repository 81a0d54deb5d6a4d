"""Stage 3: a model that answers about pictures learns films beside them; the tower stays as it is.

    python train_films.py --from STAGE2/last.pt --out FOLDER [--steps 300]

Goes on where FOLDER/last.pt left off.
"""

import argparse

import numpy as np
import torch
from torch.nn import functional as F

import words
from batches import by_type, fresh, fresh_films, right, rows_of
from checkpoint import from_training
from films import ENDS, FILM_TYPES, FRAMES, OFFERED_FILMS
from muon import Optimizer
from questions import OFFERED, TYPES
from train_language import Weights, note
from workers import launch, rate

TAP = 1  # the layer, from 0, after which patches have the word of their frame


def train(run, a):
    torch.manual_seed(a.seed)
    tower, model, state = from_training(a.start)
    tower.requires_grad_(False)
    muon = lambda name, p: p.ndim == 2 and "token_embd" not in name
    optimizer = Optimizer(model.named_parameters(), muon, run.rank, run.world)
    weights, films = Weights(), Weights(FILM_TYPES if a.when else OFFERED_FILMS)
    weights.good.update(state["good"])
    run.spent, step = state["seconds"], 0
    saved = run.resume()
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load(saved["optimizer"])
        step = saved["step"]
        weights.good.update(saved["good"])
        films.good.update({kind: good for kind, good in saved["films"].items() if kind in films.good})
    keep = lambda: {
        "model": model.state_dict(),
        "tower": tower.state_dict(),
        "optimizer": optimizer.state(),
        "step": step,
        "good": weights.good,
        "films": films.good,
        "arguments": vars(a),
    }
    seen = {}
    while step < a.steps:
        rng = np.random.default_rng((a.seed, 2000 + run.rank, step))
        for losses in (picture_step(a, rng, tower, model, run, weights), film_step(a, rng, tower, model, run, films)):
            sum(losses["sum"]).backward()
            note(seen, losses)
        now = rate(step, a.steps, a.flat)
        optimizer.step(a.muon * now, a.adam * now)
        step += 1
        if step % 20 == 0:
            mean = {name: float(np.nanmean(values)) for name, values in seen.items() if values}
            run.log(step=step, pictures=step * a.pictures, films=step * a.films, **mean)
            seen = {}
        run.save(keep)
    run.save(keep, force=True)


def answered(batch, logits):
    return (F.cross_entropy(logits, batch.targets, reduction="none") * batch.shares).sum() / batch.shares.sum()


def picture_step(a, rng, tower, model, run, weights):
    batch = fresh(rng, a.pictures // run.world, a.questions, weights.now(0.0, a.count))
    rows, _ = model["decoder"](rows_of(tower, model["projector"], batch.scenes), batch.questions)
    logits = model["decoder"].logits(rows[batch.heads]).float()
    loss, found = answered(batch, logits), by_type(batch, right(batch, logits))
    weights.learn({kind: found[kind] for kind in OFFERED})
    return {"sum": [loss], "loss": [float(loss.detach())], **{kind: found[kind] for kind in TYPES}}


def film_step(a, rng, tower, model, run, weights):
    batch = fresh_films(rng, a.films // run.world, a.questions, weights.now())
    decoder = model["decoder"]
    image = rows_of(tower, model["projector"], batch.scenes)
    rows, seen = decoder(image, batch.questions, tap=TAP if a.when else None)
    logits = decoder.logits(rows[batch.heads]).float()
    loss, found = answered(batch, logits), by_type(batch, right(batch, logits))
    weights.learn({kind: found[kind] for kind in weights.good})
    parts, losses = [loss], {"film_loss": [float(loss.detach())]}
    if a.when:
        timed = frames(decoder.logits(seen["rows"]).float(), batch.scenes)
        parts.append(a.timed * timed)
        losses["timed"] = [float(timed.detach())]
    return {"sum": parts, **losses, **{kind: found[kind] for kind in FILM_TYPES}}


def frames(logits, films):
    """Patches of objects in the first and last frame score high for the words of these, and low for the other."""
    on = torch.stack([torch.from_numpy(shown.patches() >= 0) for shown in films])
    number = torch.arange(FRAMES).repeat_interleave(on.shape[1] // FRAMES).expand(on.shape)[on]
    found = logits[on][:, [words.ID[f" {word}"] for word in ENDS]]
    true = torch.stack([number == place for place in ENDS.values()], 1).float()
    return F.binary_cross_entropy_with_logits(found, true)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--from", dest="start", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--flat", type=float, default=0.5, help="share of the steps at the full rate")
    parser.add_argument("--pictures", type=int, default=4, help="a step, of all processes")
    parser.add_argument("--films", type=int, default=8, help="a step, of all processes")
    parser.add_argument("--questions", type=int, default=20, help="a picture or film")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--when", action="store_true", help="questions about the first and the last frame too")
    parser.add_argument("--timed", type=float, default=0.3, help="weight of the words of frames beside the answers")
    parser.add_argument("--count", type=float, default=2.0, help="how much oftener counts are asked than their errors say")
    parser.add_argument("--muon", type=float, default=0.001)
    parser.add_argument("--adam", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=5)
    launch(train, parser.parse_args())
