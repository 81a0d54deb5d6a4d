"""Scenes and questions as the tensors that stage 2 and the evaluation take."""

from dataclasses import dataclass

import torch

import words
from decoder import Questions
from films import FILM_TYPES, film, film_questions
from questions import TYPES, questions
from scenes import scene
from train_vision import to_pixels

END_SHARE = 0.1  # of <eos> in the loss


@dataclass
class Batch:
    scenes: list  # or films
    asked: list  # one a question, picture by picture
    questions: Questions
    heads: torch.Tensor  # [answer tokens]: where each is predicted, a row of the text
    targets: torch.Tensor  # [answer tokens]
    shares: torch.Tensor  # [answer tokens], of the loss
    of: torch.Tensor  # [answer tokens], the question it belongs to
    spots: torch.Tensor  # [questions, 3]: picture, place among its questions, place of <assistant>
    looked: torch.Tensor  # [questions, patches]: uniform over the patches of the objects asked about, or zeros


def collect(scenes, per_scene) -> Batch:
    """`per_scene`: the questions of each scene."""
    ids, slots, offsets, heads, targets, shares, of, spots = ([] for _ in range(8))
    texts = [[(words.encode(q.text), [*words.encode(q.answer), words.EOS]) for q in asked] for asked in per_scene]
    most = max(map(len, per_scene))
    longest = max(len(t) + len(a) for asked in texts for t, a in asked)
    flat = [q for asked in per_scene for q in asked]
    owners = torch.stack([torch.from_numpy(s.patches(share=0.4)) for s in scenes])
    looked = torch.zeros(len(flat), owners.shape[1])
    for p, asked in enumerate(texts):
        for m, (text, answer) in enumerate(asked):
            row, number = len(ids), len(spots)
            whole = [*text, words.ASSISTANT, *answer[:-1]]
            ids += whole
            slots += [(p * most + m) * longest + i for i in range(len(whole))]
            offsets += range(len(whole))
            heads += [row + len(text) + i for i in range(len(answer))]
            targets += answer
            shares += [1.0] * (len(answer) - 1) + [END_SHARE]
            of += [number] * len(answer)
            spots.append((p, m, len(text)))
            for index in flat[number].about:
                looked[number] += owners[p] == index
    looked /= looked.sum(1, keepdim=True).clamp(min=1)
    tensor = torch.tensor
    packed = Questions(tensor(ids), len(scenes), most, longest, tensor(slots), tensor(offsets))
    answers = (tensor(heads), tensor(targets), tensor(shares), tensor(of))
    return Batch(scenes, flat, packed, *answers, tensor(spots), looked)


def fresh(rng, pictures, count, weights, most=6) -> Batch:
    scenes, per_scene = [], []
    while len(scenes) < pictures:
        s = scene(rng, 1, most)
        asked = questions(s, rng, count, weights)
        if asked:
            scenes.append(s), per_scene.append(asked)
    return collect(scenes, per_scene)


def fresh_films(rng, count, each, weights) -> Batch:
    films, per_film = [], []
    while len(films) < count:
        shown = film(rng)
        asked = film_questions(shown, rng, each, weights)
        if asked:
            films.append(shown), per_film.append(asked)
    return collect(films, per_film)


def rows_of(tower, projector, shown, dtype=torch.bfloat16):
    """[pictures or films, patches, width]; those of a film frame after frame. The tower learns nothing."""
    frames = [frame for one in shown for frame in getattr(one, "frames", (one,))]
    with torch.no_grad():
        patches = tower.without_class(tower(to_pixels(frames, dtype)))
    rows = projector(patches)
    return rows.view(len(shown), -1, rows.shape[-1])


def right(batch: Batch, logits) -> torch.Tensor:
    """[questions]: whether every token of the answer, its end included, has the highest score."""
    wrong = (logits.argmax(-1) != batch.targets).float()
    return torch.zeros(len(batch.asked)).index_add(0, batch.of, wrong) == 0


def by_type(batch: Batch, good) -> dict[str, list[bool]]:
    found = {kind: [] for kind in (*TYPES, *FILM_TYPES)}
    for question, value in zip(batch.asked, good.tolist()):
        found[question.type].append(value)
    return found
