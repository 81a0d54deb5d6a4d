"""Two pictures for people to look at: `python demo.py FOLDER`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from scenes import COLOR_NAMES, LETTERS, RADII, SHAPES, SIZE, SIZES, Thing, draw, ground

PICTURES = {
    # shape, color, size, letter, x, y
    "shapes": (3, [
        ("star", "yellow", "big", "", 40, 38), ("heart", "red", "small", "", 130, 34), ("circle", "blue", "big", "K", 92, 84),
        ("square", "green", "small", "", 32, 112), ("arrow", "purple", "big", "", 136, 128), ("cross", "orange", "small", "", 74, 142),
    ]),
    "letters": (4, [
        ("square", "blue", "big", "S", 34, 36), ("circle", "yellow", "small", "E", 88, 30), ("diamond", "pink", "big", "A", 132, 58),
        ("heart", "green", "big", "H", 78, 92), ("triangle", "red", "small", "X", 28, 118), ("star", "orange", "big", "T", 130, 132),
    ]),
}  # fmt: skip


def main(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (level, things) in PICTURES.items():
        rng = np.random.default_rng(7)
        canvas, owner = np.array(ground(level, rng)), np.full((SIZE, SIZE), -1, np.int8)
        for i, (shape, color, size, letter, x, y) in enumerate(things):
            size = SIZES.index(size)
            known = SHAPES.index(shape), COLOR_NAMES.index(color), size, LETTERS.index(letter) if letter else -1
            draw(canvas, owner, i, Thing(*known, x, y, RADII[size]), rng)
        Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
