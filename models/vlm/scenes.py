"""Pictures of a few objects with exact knowledge of what is where. 168 x 168 pixels, drawn in a millisecond or two.

Every object has a black outline and every letter is black on a white plate: a patch embedding is linear and sees
contrast, so shapes whose contrast changes with the ground take far longer to learn (measured).
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

SIZE = 168
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "heart", "arrow")
COLORS = {
    "red": (222, 40, 38),
    "orange": (255, 150, 30),
    "yellow": (250, 230, 40),
    "green": (50, 160, 60),
    "blue": (45, 90, 220),
    "purple": (130, 50, 170),
    "pink": (255, 160, 205),
    "brown": (125, 75, 40),
}
COLOR_NAMES = tuple(COLORS)
SIZES = ("small", "big")
RADII = (15.5, 23.0)
GROUNDS = ("plain", "gradient", "noise", "clutter", "dense")

# Letters as 5 x 7 dots, one number a row.
GLYPHS = {
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "J": (7, 2, 2, 2, 2, 18, 12),
    "K": (17, 18, 20, 24, 20, 18, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14),
    "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 10, 4, 4, 4, 4),
    "Z": (31, 1, 2, 4, 8, 16, 31),
}
LETTERS = tuple(GLYPHS)


@dataclass(frozen=True)
class Thing:
    """One object: indices into the tables above (letter -1 for none), centre and radius in pixels."""

    shape: int
    color: int
    size: int
    letter: int
    x: int
    y: int
    radius: float

    def cell(self) -> int:
        """Which of the 3 x 3 parts of the picture holds the centre, row by row."""
        return int(self.y * 3 // SIZE) * 3 + int(self.x * 3 // SIZE)

    def clear(self) -> bool:
        """Whether the centre is at least 5 pixels from the borders between parts."""
        return all(abs(v - border) >= 5 for v in (self.x, self.y) for border in (SIZE / 3, 2 * SIZE / 3))


@dataclass
class Scene:
    things: list[Thing]
    ground: int
    pixels: np.ndarray = field(repr=False)  # [SIZE, SIZE, 3], uint8
    owner: np.ndarray = field(repr=False)  # [SIZE, SIZE], the index of the object at a pixel or -1

    def patches(self, patch=14, share=0.2) -> np.ndarray:
        """For each patch, row by row, the object that fills most of it, if it fills that share; else -1."""
        side, count = SIZE // patch, len(self.things)
        cells = self.owner.reshape(side, patch, side, patch).transpose(0, 2, 1, 3).reshape(side * side, -1)
        filled = (cells[:, None] == np.arange(count)[:, None]).mean(2) if count else np.zeros((side * side, 1))
        return np.where(filled.max(1) >= share, filled.argmax(1), -1)


def outline(shape: str) -> np.ndarray:
    """Corners of a shape of radius 1 around (0, 0), y down."""
    turn = lambda n, start=-np.pi / 2: start + 2 * np.pi * np.arange(n) / n
    ring = lambda angles, radii=1.0: np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1)
    if shape == "circle":
        return ring(turn(40))
    if shape == "square":
        return 0.9 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    if shape == "triangle":
        return ring(turn(3), 1.35) + (0, 0.2)
    if shape == "diamond":
        return ring(turn(4), 1.2)
    if shape == "star":
        return ring(turn(10), np.tile((1.3, 0.68), 5))
    if shape == "cross":
        a, b = 1.1, 0.48
        return np.array([(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b),
                         (-a, -b), (-b, -b)])  # fmt: skip
    if shape == "heart":
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        x = 16 * np.sin(t) ** 3
        y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
        return np.stack([x, y - 1], 1) / 14.5
    return np.array([(0, -1.2), (1.15, 0.05), (0.55, 0.05), (0.55, 1.15), (-0.55, 1.15), (-0.55, 0.05), (-1.15, 0.05)])


@lru_cache(maxsize=None)
def coverage(shape: int, half_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """How much of each pixel lies within the outline, and within its inner edge 2 pixels further in."""
    corners = outline(SHAPES[shape]) * half_pixels / 2
    reach = reach_of(half_pixels)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    inside, distance = np.zeros(x.shape, bool), np.full(x.shape, np.inf)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0)):
        dx, dy = bx - ax, by - ay
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        distance = np.minimum(distance, np.hypot(x - ax - along * dx, y - ay - along * dy))
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = ((ay > y) != (by > y)) & (x < dx * (y - ay) / dy + ax)
        inside ^= crossing
    signed = np.where(inside, distance, -distance)
    edges = np.clip(signed + 0.5, 0, 1), np.clip(signed - 1.5, 0, 1)
    return tuple(edge[..., None].astype(np.float32) for edge in edges)


def reach_of(half_pixels: int) -> int:
    return int(half_pixels / 2 * 1.4) + 2


@lru_cache(maxsize=None)
def glyph(letter: int, scale: int) -> np.ndarray:
    """Darkness on the plate: white with a margin of half a dot, and a letter of 5 x 7 dots."""
    rows = [[row >> (4 - i) & 1 for i in range(5)] for row in GLYPHS[LETTERS[letter]]]
    return np.pad(np.kron(np.array(rows), np.ones((scale, scale), int)), scale - 1)


def draw(canvas: np.ndarray, owner: np.ndarray, index: int, thing: Thing, rng: np.random.Generator) -> None:
    half = round(thing.radius * 2)
    reach = reach_of(half)
    outer, inner = coverage(thing.shape, half)
    y0, x0 = thing.y - reach, thing.x - reach
    top, left = max(0, -y0), max(0, -x0)
    bottom, right = min(2 * reach + 1, SIZE - y0), min(2 * reach + 1, SIZE - x0)
    area = canvas[y0 + top : y0 + bottom, x0 + left : x0 + right]
    fill = (np.array(COLORS[COLOR_NAMES[thing.color]]) + rng.integers(-10, 11, 3)).astype(np.float32)
    outer, inner = outer[top:bottom, left:right], inner[top:bottom, left:right]
    area *= 1 - outer
    area += inner * fill
    owner[y0 + top : y0 + bottom, x0 + left : x0 + right][outer[..., 0] > 0.5] = index
    if thing.letter >= 0:
        plate = glyph(thing.letter, 2 if thing.size == 0 else 3)
        h, w = plate.shape
        py, px = thing.y - h // 2, thing.x - w // 2
        canvas[py : py + h, px : px + w] = 255 - 255 * plate[..., None]


def ground(level: int, rng: np.random.Generator) -> np.ndarray:
    """Light grey tones, from one tone to dense clutter."""
    tone = rng.uniform(165, 235)
    tint = tone + rng.uniform(-8, 8, 3)
    canvas = np.broadcast_to(tint.astype(np.float32), (SIZE, SIZE, 3))
    if level == 0:
        return canvas
    if level == 1:
        angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(15, 45)
        line = np.linspace(-depth, depth, SIZE, dtype=np.float32)
        slope = np.float32(np.cos(angle)) * line + np.float32(np.sin(angle)) * line[:, None]
        return np.clip(canvas + slope[..., None], 100, 245)
    if level == 2:
        grain = int(rng.choice((4, 7, 14, 28)))
        noise = rng.uniform(-30, 30, (SIZE // grain, SIZE // grain)).astype(np.float32)
        return np.clip(canvas + noise.repeat(grain, 0).repeat(grain, 1)[..., None], 100, 245)
    canvas = np.array(canvas)
    for _ in range(int(rng.integers(8, 14)) * (level - 2)):
        clutter(canvas, rng)
    return canvas


def clutter(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """A box, a line or an arc in a light tone."""
    tone = rng.uniform(130, 245)
    kind = rng.integers(3)
    if kind == 0:
        x, y = rng.integers(0, SIZE, 2)
        w, h = rng.integers(6, 50, 2)
        canvas[y : y + h, x : x + w] = tone
        return
    steps = np.linspace(0, 1, 120)
    if kind == 1:
        (ax, bx), (ay, by) = rng.uniform(0, SIZE, (2, 2))
        xs, ys = ax + (bx - ax) * steps, ay + (by - ay) * steps
    else:
        angles = rng.uniform(0, 2 * np.pi) + steps * rng.uniform(1.5, 6)
        radius = rng.uniform(8, 45)
        xs, ys = rng.uniform(0, SIZE, 2)[:, None] + radius * np.stack([np.cos(angles), np.sin(angles)])
    thick = int(rng.integers(1, 4))
    xs, ys = xs.astype(int), ys.astype(int)
    for dy in range(thick):
        for dx in range(thick):
            x, y = xs + dx, ys + dy
            fits = (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)
            canvas[y[fits], x[fits]] = tone


def place(rng: np.random.Generator, count: int, letters: float, alike: float) -> list[Thing]:
    """Up to `count` objects that do not overlap; some copy the shape or the color of another."""
    things: list[Thing] = []
    for _ in range(count):
        size, radius = sized(rng)
        spot = free_spot(rng, things, radius)
        if spot is not None:
            things.append(thing_at(spot, size, radius, rng, things, letters, alike))
    return things


def sized(rng: np.random.Generator) -> tuple[int, float]:
    size = int(rng.integers(2))
    return size, round((RADII[size] + rng.uniform(-1.5, 1.5)) * 2) / 2


def thing_at(spot: tuple[int, int], size: int, radius: float, rng, others: list[Thing], letters=0.55, alike=0.35) -> Thing:
    shape, color = int(rng.integers(len(SHAPES))), int(rng.integers(len(COLORS)))
    if others and rng.random() < alike:
        other = others[rng.integers(len(others))]
        if rng.random() < 0.5:
            shape = other.shape
        else:
            color = other.color
    letter = int(rng.integers(len(LETTERS))) if rng.random() < letters else -1
    return Thing(shape, color, size, letter, *spot, radius)


def free_spot(rng: np.random.Generator, things: list[Thing], radius: float) -> tuple[int, int] | None:
    margin = int(radius * 1.25) + 1
    for x, y in rng.integers(margin, SIZE - margin, (60, 2)).tolist():
        if all((x - t.x) ** 2 + (y - t.y) ** 2 > (1.15 * (radius + t.radius) + 3) ** 2 for t in things):
            return x, y
    return None


def scene(rng: np.random.Generator, fewest=1, most=6, letters=0.55, alike=0.35, level: int | None = None) -> Scene:
    things = place(rng, int(rng.integers(fewest, most + 1)), letters, alike)
    level = int(rng.integers(len(GROUNDS))) if level is None else level
    canvas = np.array(ground(level, rng))
    owner = np.full((SIZE, SIZE), -1, np.int8)
    for index, thing in enumerate(things):
        draw(canvas, owner, index, thing, rng)
    return Scene(things, level, canvas.clip(0, 255).astype(np.uint8), owner)
