"""What PyTorch makes of the exported files, for tests of the engine: `python reference.py NAME TASKS`.

Weights are those of the files after rounding, the arithmetic is float64. For the first pictures of the task set:
some projected rows, what the class token gives to each patch in the last layer (over heads), and for each question the
scores of all tokens as the first token of the answer, with the number of its most likely one.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from batches import collect
from checkpoint import from_gguf
from questions import Question
from train_vision import MEAN, STD

ROWS = (0, 65, 143)
rounded = lambda values: [round(float(v), 5) for v in values]


class Painted:
    """A scene of which only the picture is known."""

    def patches(self, share=0.0):
        return np.full(144, -1)


@torch.no_grad()
def describe(tower, model, folder, task):
    image = np.asarray(Image.open(folder / task["image"]).convert("RGB"))
    pixels = ((torch.tensor(image).double() / 255 - MEAN) / STD).permute(2, 0, 1)[None]
    trace = {}
    projected = model["projector"](tower.without_class(tower(pixels, trace)))
    asked = [Question(q["type"], q["text"], q["answer"], ()) for q in task["questions"][:3]]
    batch = collect([Painted()], [asked])
    rows, _ = model["decoder"](projected, batch.questions)
    first = [int((batch.of == i).nonzero()[0]) for i in range(len(asked))]
    logits = model["decoder"].logits(rows[batch.heads])[first]
    return {
        "image": task["image"],
        "projected": {str(i): rounded(projected[0, i]) for i in ROWS},
        "classAttention": rounded(trace["attention"][-1][0, :, 0, 1:].mean(0)),
        "questions": [
            {"text": q.text, "best": int(scores.argmax()), "logits": rounded(scores)}
            for q, scores in zip(asked, logits)
        ],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("tasks", type=Path)
    a = parser.parse_args()
    tower, model = (part.double() for part in from_gguf(f"{a.name}.gguf", f"{a.name}.mmproj.gguf"))
    scenes = json.loads((a.tasks / "tasks.json").read_text())["scenes"]
    lines = ",\n".join(json.dumps(describe(tower, model, a.tasks, scenes[i])) for i in (3, 5))
    (a.tasks / f"{Path(a.name).name}.reference.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
