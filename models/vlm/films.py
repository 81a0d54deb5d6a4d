"""Short films: one ground, objects that are there from the first frame, come or go, and often one that moves through.

Most of what is asked is in some frames only, so that whoever drops frames has to know which.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from questions import ASK, Question, article, names, pick, place_of
from scenes import COLOR_NAMES, GROUNDS, SHAPES, SIZE, Scene, Thing, draw, free_spot, ground, sized, thing_at

FRAMES = 3
FILM_TYPES = ("film color", "film shape", "film letter", "film exist", "film where", "film then")
OFFERED_FILMS = FILM_TYPES[:4]  # what the models are good at: which frame is meant was not learned
WAYS = ((-1, 0), (1, 0), (0, -1), (0, 1))
STEP = (24, 38)  # pixels from a frame to the next
ENDS = {"start": 0, "end": FRAMES - 1}


@dataclass
class Film:
    """`things`: all objects ever seen, as they are at first; `paths`: each in every frame, None where it is not there."""

    things: list[Thing]
    paths: list[list[Thing | None]]
    frames: list[Scene] = field(repr=False)  # their `owner` counts as `things` does

    def patches(self, patch=14, share=0.2) -> np.ndarray:
        """[FRAMES * 144]: the object that fills most of a patch, frame by frame."""
        counted = (replace(frame, things=self.things) for frame in self.frames)
        return np.concatenate([frame.patches(patch, share) for frame in counted])


def film(rng: np.random.Generator, most=5, level: int | None = None) -> Film:
    paths = plan(rng, int(rng.integers(2, most + 1)))
    level = int(rng.integers(len(GROUNDS))) if level is None else level
    back, inks = np.array(ground(level, rng)), rng.integers(1 << 31, size=len(paths))
    frames = []
    for number in range(FRAMES):
        canvas, owner = back.copy(), np.full((SIZE, SIZE), -1, np.int8)
        for index, path in enumerate(paths):
            if path[number] is not None:
                draw(canvas, owner, index, path[number], np.random.default_rng(inks[index]))
        shown = [path[number] for path in paths if path[number] is not None]
        frames.append(Scene(shown, level, canvas.clip(0, 255).astype(np.uint8), owner))
    return Film([next(t for t in path if t is not None) for path in paths], paths, frames)


def plan(rng: np.random.Generator, count: int) -> list[list[Thing | None]]:
    paths = [moving(rng)] if rng.random() < 0.7 else []
    for _ in range(count - len(paths)):
        taken = [t for path in paths for t in path if t is not None]
        size, radius = sized(rng)
        spot = free_spot(rng, taken, radius)
        if spot is not None:
            thing = thing_at(spot, size, radius, rng, taken)
            when, chance = int(rng.integers(1, FRAMES)), rng.random()
            there = range(FRAMES) if chance < 0.4 else range(when) if chance < 0.7 else range(when, FRAMES)
            paths.append([thing if number in there else None for number in range(FRAMES)])
    return [paths[i] for i in rng.permutation(len(paths))]


def moving(rng: np.random.Generator) -> list[Thing | None]:
    (size, radius), (dx, dy), far = sized(rng), pick(rng, WAYS), int(rng.integers(*STEP))
    margin, reach = int(radius * 1.25) + 1, (FRAMES - 1) * far
    x = int(rng.integers(margin + reach * (dx < 0), SIZE - margin - reach * (dx > 0)))
    y = int(rng.integers(margin + reach * (dy < 0), SIZE - margin - reach * (dy > 0)))
    thing = thing_at((x, y), size, radius, rng, [])
    return [replace(thing, x=x + i * far * dx, y=y + i * far * dy) for i in range(FRAMES)]


def ask_where(shown: Film, rng: np.random.Generator) -> Question | None:
    """Objects that move twice as often as the others."""
    moves = [i for i, path in enumerate(shown.paths) if None not in path and path[0] != path[-1]]
    index = pick(rng, [*range(len(shown.things)), *(moves * len(shown.things))])
    when = pick(rng, list(ENDS))
    thing, called = shown.paths[index][ENDS[when]], names(shown, index)
    if thing is None or not thing.clear() or not called:
        return None
    return Question("where", f"where is the {pick(rng, called)} at the {when}?", place_of(thing.cell()), (index,))


def ask_then(shown: Film, rng: np.random.Generator) -> Question | None:
    """Whether something is there in the first or in the last frame; what is not there is in another frame."""
    when, yes = pick(rng, list(ENDS)), rng.random() < 0.5
    kind = lambda thing: (thing.color, thing.shape)
    there = {kind(t) for path in shown.paths if (t := path[ENDS[when]]) is not None}
    kinds = sorted(there if yes else {kind(t) for t in shown.things} - there)
    if not kinds:
        return None
    color, shape = pick(rng, kinds)
    about = tuple(i for i, t in enumerate(shown.things) if kind(t) == (color, shape))
    text = f"is there {article(f'{COLOR_NAMES[color]} {SHAPES[shape]}')} at the {when}?"
    return Question("then", text, "yes" if yes else "no", about)


def film_questions(shown: Film, rng: np.random.Generator, count: int, weights: dict[str, float]) -> list[Question]:
    """Up to `count` different questions, their types drawn by weight; objects are asked for whenever they are seen."""
    kinds, ask = list(weights), {**ASK, "where": ask_where, "then": ask_then}
    share = np.array([weights[k] for k in kinds])
    asked: dict[str, Question] = {}
    for kind in rng.choice(len(kinds), 4 * count, p=share / share.sum()):
        name = kinds[kind]
        question = ask[name.removeprefix("film ")](shown, rng)
        if question is not None:
            asked.setdefault(question.text, replace(question, type=name))
        if len(asked) == count:
            break
    return list(asked.values())
