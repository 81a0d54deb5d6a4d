"""The visual task sets: scenes and frames of films as PNG, questions about them as JSON, drawn from seeds that
training never uses.

    python tasks.py FOLDER [--scenes 60] [--films 24]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

import words
from films import OFFERED_FILMS, film, film_questions
from questions import OFFERED, questions
from scenes import COLOR_NAMES, GROUNDS, LETTERS, SHAPES, SIZES, SIZE, scene

SEED, FILM_SEED = 990_017, 990_018


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


def film_task(shown, files, rng):
    about = [{**describe(t), "frames": seen_in(path)} for t, path in zip(shown.things, shown.paths)]
    asked = [q for kind in OFFERED_FILMS for q in film_questions(shown, rng, 2, {kind: 1.0})]
    listed = [{"type": q.type, "text": q.text, "answer": q.answer, "ids": words.encode(q.text)} for q in asked]
    return {"video": files, "things": about, "questions": listed}


def seen_in(path):
    return [number for number, thing in enumerate(path) if thing is not None]


def films(folder, count):
    rng, tasks = np.random.default_rng(FILM_SEED), []
    for i in range(count):
        shown = film(rng, level=i % len(GROUNDS))
        names = [f"film-{i:02}-{number}.png" for number in range(len(shown.frames))]
        for name, frame in zip(names, shown.frames):
            Image.fromarray(frame.pixels).save(folder / name, optimize=True)
        tasks.append(film_task(shown, names, rng))
    return tasks


def write(path, seed, tasks):
    lines = ",\n".join(json.dumps(t) for t in tasks)
    head = json.dumps({"seed": seed, "size": SIZE, "patch": 14, "license": "MIT"})[:-1]
    path.write_text(f'{head}, "scenes": [\n{lines}\n]}}\n')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--films", type=int, default=24)
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
    write(a.folder / "tasks.json", SEED, tasks)
    if a.films:
        write(a.folder / "films.json", FILM_SEED, films(a.folder, a.films))


if __name__ == "__main__":
    main()
