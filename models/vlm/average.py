"""Between two checkpoints of one training: `python average.py BEFORE.pt AFTER.pt OUT.pt [--share 0.4]`.

What a model forgets while it learns something new comes back before the new is lost.
"""

import argparse

import torch

from checkpoint import from_training


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("out")
    parser.add_argument("--share", type=float, default=0.4, help="of the later one")
    a = parser.parse_args()
    words = len(torch.load(a.before, weights_only=False)["model"]["decoder.token_embd"])
    _, before, _ = from_training(a.before)
    _, after, state = from_training(a.after)
    old, new = before.state_dict(), after.state_dict()
    model = {name: old[name].lerp(new[name], a.share) for name in old}
    model["decoder.token_embd"][words:] = new["decoder.token_embd"][words:]  # words that came in between
    torch.save({**state, "model": model}, a.out)


if __name__ == "__main__":
    main()
