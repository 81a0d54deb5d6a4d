"""Questions with exact answers about a scene, in plain English."""

from dataclasses import dataclass

import numpy as np

from scenes import COLOR_NAMES, LETTERS, SHAPES, SIZE, SIZES, Scene, Thing

TYPES = ("color", "shape", "letter", "where", "at", "count", "exist", "relation")
OFFERED = TYPES[:-1]  # what the models are good at: relations stayed at chance
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
SIDES = ("left of", "right of", "above", "below")
NEAR = 12  # pixels: closer than this in its direction, a relation is not asked for


@dataclass(frozen=True)
class Question:
    type: str
    text: str
    answer: str
    about: tuple[int, ...]  # the objects that the answer is read from


def plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")


def article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def place_of(cell: int) -> str:
    return f"{ROWS[cell // 3]} {COLUMNS[cell % 3]}"


def pick(rng: np.random.Generator, items):
    return items[int(rng.integers(len(items)))]


def names(scene: Scene, index: int, without: str = "") -> list[str]:
    """What no other object of the scene is called: a shape alone, or with its color or size, and so on."""
    t = scene.things[index]
    shape, color, size = SHAPES[t.shape], COLOR_NAMES[t.color], SIZES[t.size]
    ways = {
        shape: ("shape",),
        f"{color} {shape}": ("color", "shape"),
        f"{color} object": ("color",),
        f"{size} {shape}": ("size", "shape"),
    }
    if t.letter >= 0:
        ways[f"object with {LETTERS[t.letter]}"] = ("letter",)
    others = [o for i, o in enumerate(scene.things) if i != index]
    alone = lambda keys: not any(all(getattr(o, k) == getattr(t, k) for k in keys) for o in others)
    return [name for name, keys in ways.items() if without not in keys and alone(keys)]


def about_one(kind: str, text: str, answer):
    """Makes questions whose answer is a property of one object; `without` is what its name must not tell."""

    def ask(scene: Scene, rng: np.random.Generator) -> Question | None:
        if not scene.things:
            return None
        index = int(rng.integers(len(scene.things)))
        found, called = answer(scene.things[index]), names(scene, index, kind)
        if found is None or not called or (found == "nothing" and rng.random() < 0.6):
            return None
        return Question(kind, text.format(pick(rng, called)), found, (index,))

    return ask


def ask_at(scene: Scene, rng: np.random.Generator) -> Question | None:
    cell = int(rng.integers(9))
    x0, y0, third = cell % 3 * SIZE / 3, cell // 3 * SIZE / 3, SIZE / 3
    near = lambda v, low: low - 5 <= v < low + third + 5
    inside = [i for i, t in enumerate(scene.things) if near(t.x, x0) and near(t.y, y0)]
    if len(inside) > 1 or (inside and not in_cell(scene.things[inside[0]], cell)):
        return None
    if not inside and rng.random() < 0.8:
        return None
    answer = "nothing"
    if inside:
        t = scene.things[inside[0]]
        answer = f"{COLOR_NAMES[t.color]} {SHAPES[t.shape]}"
    return Question("at", f"what is at the {place_of(cell)}?", answer, tuple(inside))


def in_cell(thing: Thing, cell: int) -> bool:
    return thing.clear() and thing.cell() == cell


def ask_count(scene: Scene, rng: np.random.Generator) -> Question | None:
    groups: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
    for words, test in countable(scene, rng):
        about = tuple(i for i, t in enumerate(scene.things) if test(t))
        groups.setdefault(len(about), []).append((words, about))
    counts = [n for n in groups if n < len(NUMBERS)]
    weights = np.array([0.5 if n < 2 else 1.0 for n in counts])
    count = counts[int(rng.choice(len(counts), p=weights / weights.sum()))]
    words, about = pick(rng, groups[count])
    return Question("count", f"how many {words} are there?", NUMBERS[count], about)


def countable(scene: Scene, rng: np.random.Generator):
    """What could be counted here, as (words, test): present kinds, and a few that are not."""
    present = lambda key: sorted({getattr(t, key) for t in scene.things})
    yield "objects", lambda t: True
    for s in {*present("shape"), int(rng.integers(len(SHAPES)))}:
        yield plural(SHAPES[s]), lambda t, s=s: t.shape == s
        for z in (0, 1):
            yield f"{SIZES[z]} {plural(SHAPES[s])}", lambda t, s=s, z=z: t.shape == s and t.size == z
    for c in {*present("color"), int(rng.integers(len(COLOR_NAMES)))}:
        yield f"{COLOR_NAMES[c]} objects", lambda t, c=c: t.color == c
    for z in (0, 1):
        yield f"{SIZES[z]} objects", lambda t, z=z: t.size == z


def ask_exist(scene: Scene, rng: np.random.Generator) -> Question | None:
    kinds = {(t.color, t.shape) for t in scene.things}
    if not kinds:
        return None
    color, shape = pick(rng, sorted(kinds))
    yes = rng.random() < 0.5
    if not yes:  # a near miss: the color or the shape is there
        if rng.random() < 0.5:
            color = int(rng.integers(len(COLOR_NAMES)))
        else:
            shape = int(rng.integers(len(SHAPES)))
        if (color, shape) in kinds:
            return None
    about = tuple(i for i, t in enumerate(scene.things) if (t.color, t.shape) == (color, shape))
    text = f"is there {article(f'{COLOR_NAMES[color]} {SHAPES[shape]}')}?"
    return Question("exist", text, "yes" if yes else "no", about)


def ask_relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    if len(scene.things) < 2:
        return None
    a, b = (int(i) for i in rng.permutation(len(scene.things))[:2])
    first, second, side = scene.things[a], scene.things[b], int(rng.integers(4))
    apart = (second.x - first.x, first.x - second.x, second.y - first.y, first.y - second.y)[side]
    called = names(scene, a), names(scene, b)
    if abs(apart) < NEAR or not all(called):
        return None
    text = f"is the {pick(rng, called[0])} {SIDES[side]} the {pick(rng, called[1])}?"
    return Question("relation", text, "yes" if apart > 0 else "no", (a, b))


ASK = {
    "color": about_one("color", "what color is the {}?", lambda t: COLOR_NAMES[t.color]),
    "shape": about_one("shape", "what shape is the {}?", lambda t: SHAPES[t.shape]),
    "letter": about_one("letter", "what letter is on the {}?", lambda t: (*LETTERS, "nothing")[t.letter]),
    "where": about_one("where", "where is the {}?", lambda t: place_of(t.cell()) if t.clear() else None),
    "at": ask_at,
    "count": ask_count,
    "exist": ask_exist,
    "relation": ask_relation,
}


def questions(scene: Scene, rng: np.random.Generator, count: int, weights: dict[str, float]) -> list[Question]:
    """Up to `count` different questions, their types drawn by weight."""
    kinds = list(weights)
    share = np.array([weights[k] for k in kinds])
    asked: dict[str, Question] = {}
    for kind in rng.choice(len(kinds), 4 * count, p=share / share.sum()):
        question = ASK[kinds[kind]](scene, rng)
        if question is not None:
            asked.setdefault(question.text, question)
        if len(asked) == count:
            break
    return list(asked.values())
