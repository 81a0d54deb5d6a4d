"""What PyTorch makes of the exported files, for tests of the engine: `python reference.py NAME TASKS`.

Weights are those of the files after rounding, the arithmetic is float64. For two pictures of the task set and a film:
some projected rows, what the class token gives to each patch in the last layer (over heads; of the last frame), and for
each question the scores of all tokens as the first token of the answer, with the number of its most likely one.
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
    """A scene or film of which only the pictures are known."""

    def __init__(self, count):
        self.count = count

    def patches(self, share=0.0):
        return np.full(144 * self.count, -1)


@torch.no_grad()
def describe(tower, model, folder, task):
    files = task.get("video", [task.get("image")])
    images = np.stack([np.asarray(Image.open(folder / name).convert("RGB")) for name in files])
    pixels = ((torch.tensor(images).double() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    trace = {}
    projected = model["projector"](tower.without_class(tower(pixels, trace))).flatten(0, 1)[None]
    asked = [Question(q["type"], q["text"], q["answer"], ()) for q in task["questions"][:3]]
    batch = collect([Painted(len(files))], [asked])
    rows, _ = model["decoder"](projected, batch.questions)
    first = [int((batch.of == i).nonzero()[0]) for i in range(len(asked))]
    logits = model["decoder"].logits(rows[batch.heads])[first]
    return {
        **({"video": files} if "video" in task else {"image": files[0]}),
        "projected": {str(i): rounded(projected[0, i]) for i in ROWS},
        "classAttention": rounded(trace["attention"][-1][-1, :, 0, 1:].mean(0)),
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
    scenes, films = (json.loads((a.tasks / name).read_text())["scenes"] for name in ("tasks.json", "films.json"))
    lines = ",\n".join(json.dumps(describe(tower, model, a.tasks, one)) for one in (scenes[3], scenes[5], films[1]))
    (a.tasks / f"{Path(a.name).name}.reference.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
