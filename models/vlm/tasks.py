"""The visual task set: scenes as PNG and their questions as JSON, drawn from a seed that training never uses.

    python tasks.py FOLDER [--scenes 60]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

import words
from questions import OFFERED, questions
from scenes import COLOR_NAMES, GROUNDS, LETTERS, SHAPES, SIZES, SIZE, scene

SEED = 990_017


def describe(thing):
    return {
        "shape": SHAPES[thing.shape],
        "color": COLOR_NAMES[thing.color],
        "size": SIZES[thing.size],
        "letter": LETTERS[thing.letter] if thing.letter >= 0 else None,
        "x": thing.x,
        "y": thing.y,
        "radius": thing.radius,
    }


def task(s, image, rng):
    owner = s.patches(share=0.25)
    things = [{**describe(t), "patches": np.flatnonzero(owner == i).tolist()} for i, t in enumerate(s.things)]
    asked = [q for kind in OFFERED for q in questions(s, rng, 2, {kind: 1.0})]
    return {"image": image, "ground": GROUNDS[s.ground], "things": things, "questions": [listed(s, q) for q in asked]}


def listed(s, q):
    at = [[s.things[i].x, s.things[i].y] for i in q.about]
    ids = words.encode(q.text)
    return {"type": q.type, "text": q.text, "answer": q.answer, "ids": ids, "about": list(q.about), "at": at}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=60)
    a = parser.parse_args()
    a.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    tasks = []
    for i in range(a.scenes):
        count = 1 + i % 6
        s = scene(rng, count, count, level=i // 6 % len(GROUNDS))
        name = f"{i:02}.png"
        Image.fromarray(s.pixels).save(a.folder / name, optimize=True)
        tasks.append(task(s, name, rng))
    lines = ",\n".join(json.dumps(t) for t in tasks)
    head = json.dumps({"seed": SEED, "size": SIZE, "patch": 14, "license": "MIT"})[:-1]
    (a.folder / "tasks.json").write_text(f'{head}, "scenes": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
