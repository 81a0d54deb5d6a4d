"""Exact-match accuracy by type of question on scenes that training never drew.

    python evaluate.py FOLDER/last.pt            a checkpoint of stage 2
    python evaluate.py NAME                      NAME.gguf and NAME.mmproj.gguf, weights as the files hold them
"""

import argparse
import json

import numpy as np
import torch

from batches import by_type, fresh, fresh_films, right, rows_of
from checkpoint import from_gguf, from_training
from films import FILM_TYPES, OFFERED_FILMS
from questions import OFFERED, TYPES

SEED = 777_001  # training draws from small seeds


def answer(tower, model, batch):
    image = rows_of(tower, model["projector"], batch.scenes, torch.float32)
    rows, _ = model["decoder"](image, batch.questions)
    return right(batch, model["decoder"].logits(rows[batch.heads]))


def interval(good, n):
    """Wilson's, 95 %."""
    z, share = 1.96, good / n
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


@torch.no_grad()
def measure(tower, model, each, types=OFFERED, seed=SEED):
    """{type: [right or not]} with at least `each` questions of every type; all of pictures, or all of films."""
    draw = fresh_films if types[0] in FILM_TYPES else fresh
    found, rng = {kind: [] for kind in types}, np.random.default_rng(seed)
    while min(map(len, found.values())) < each:
        weights = {kind: float(len(values) < each) + 1e-9 for kind, values in found.items()}
        batch = draw(rng, 8, 10, weights)
        good = by_type(batch, answer(tower, model, batch))
        for kind in types:
            found[kind] += good[kind]
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--each", type=int, default=400, help="questions of each type")
    parser.add_argument("--all", action="store_true", help="those that are not offered too")
    parser.add_argument("--films", action="store_true", help="films instead of pictures")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(1)
    files = not a.model.endswith(".pt")
    tower, model = from_gguf(f"{a.model}.gguf", f"{a.model}.mmproj.gguf") if files else from_training(a.model)[:2]
    types = [[OFFERED, TYPES], [OFFERED_FILMS, FILM_TYPES]][a.films][a.all]
    found = measure(tower, model, a.each, types)
    if a.json:
        print(json.dumps({kind: [int(np.sum(v)), len(v)] for kind, v in found.items()}))
        return
    print("| type | questions | exact | 95 % interval |\n|---|---|---|---|")
    for kind, values in found.items():
        low, high = interval(np.sum(values), len(values))
        print(f"| {kind} | {len(values)} | {np.mean(values):.3f} | {low:.3f} – {high:.3f} |")


if __name__ == "__main__":
    main()
