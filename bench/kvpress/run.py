"""kvpress's side of the comparison: python run.py MODEL.gguf CASES.json OUT.json.

One prefill a case gives the rows that every press keeps: hidden states do not depend on what a layer's cache loses
after its attention. Answers are then read, given and not generated, with those rows alone.
"""

import json
import os
import resource
import sys
import time

import torch
from kvpress import (
    AdaKVPress,
    ChunkKVPress,
    ExpectedAttentionPress,
    KeyDiffPress,
    KnormPress,
    LagKVPress,
    PyramidKVPress,
    RandomPress,
    SnapKVPress,
    StreamingLLMPress,
    TOVAPress,
)
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging

PRESSES = {
    "snapkv": lambda ratio: SnapKVPress(compression_ratio=ratio, window_size=32, kernel_size=7),
    "tova": lambda ratio: TOVAPress(compression_ratio=ratio),
    "knorm": lambda ratio: KnormPress(compression_ratio=ratio),
    "keyDiff": lambda ratio: KeyDiffPress(compression_ratio=ratio),
    "streamingLlm": lambda ratio: StreamingLLMPress(compression_ratio=ratio, n_sink=4),
    "expectedAttention": lambda ratio: ExpectedAttentionPress(compression_ratio=ratio, n_future_positions=512, n_sink=4),
    "lagKv": lambda ratio: LagKVPress(compression_ratio=ratio, n_sink=4, lag_size=64),
    "pyramidKv": lambda ratio: PyramidKVPress(compression_ratio=ratio, window_size=32, kernel_size=7),
    "chunkKv": lambda ratio: ChunkKVPress(SnapKVPress(compression_ratio=ratio, window_size=32, kernel_size=7)),
    "adaKv": lambda ratio: AdaKVPress(SnapKVPress(compression_ratio=ratio, window_size=32, kernel_size=7)),
    "random": lambda ratio: RandomPress(compression_ratio=ratio),
}


def load(path: str):
    logging.disable_progress_bar()
    folder, name = os.path.split(os.path.abspath(path))
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()


def places(kept: torch.Tensor, keys: torch.Tensor) -> list:
    """Which of a head's rows these are: [heads] lists, ascending. Rows differ, since each is turned by its position."""
    found = []
    for some, every in zip(kept[0], keys[0]):
        at = {row.numpy().tobytes(): place for place, row in enumerate(every)}
        found.append(sorted(at[row.numpy().tobytes()] for row in some))
    return found


def rows_of(press, module, kwargs, output, keys, values) -> list:
    kept, _ = press.compress(module, kwargs["hidden_states"], keys, values, None, kwargs)
    heads, length = keys.shape[1], keys.shape[2]
    if not isinstance(press, AdaKVPress):
        return places(kept, keys)
    _, head, row = module.masked_key_indices
    gone = {(int(h), int(r)) for h, r in zip(head, row)}
    module.masked_key_indices = None
    return [[r for r in range(length) if (h, r) not in gone] for h in range(heads)]


def prefill(model, ids, budgets, methods):
    """The full cache, and {method: {budget: [layers][heads] rows}}."""
    cache, rows = DynamicCache(), {name: {b: [] for b in budgets} for name in methods}

    def hook(module, _, kwargs, output):
        layer = cache.layers[module.layer_idx]
        for name in methods:
            for budget in budgets:
                # compute_n_kept rounds down, so half a row more than asked for.
                press = PRESSES[name](1 - (budget + 0.5) / len(ids))
                rows[name][budget].append(rows_of(press, module, kwargs, output, layer.keys, layer.values))
        return output

    hooks = []
    for layer in model.model.layers:
        layer.self_attn.rotary_emb = model.model.rotary_emb
        hooks.append(layer.self_attn.register_forward_hook(hook, with_kwargs=True))
    torch.manual_seed(1)
    model(torch.tensor([ids]), past_key_values=cache, logits_to_keep=1)
    for one in hooks:
        one.remove()
    return cache, rows


def answer(model, cache, rows, case):
    """Log-probability a token and whether each was the likeliest, with these rows of the cache (None: all)."""
    start, given = len(case["first"]), case["second"] + case["answer"]
    size = max(len(head) for layer in rows for head in layer) if rows else start
    some, mask = DynamicCache(), []
    for i, layer in enumerate(cache.layers):
        keys, values = layer.keys, layer.values
        if rows:
            index = torch.tensor([head + [head[-1]] * (size - len(head)) for head in rows[i]])
            index = index[None, :, :, None].expand(-1, -1, -1, keys.shape[-1])
            keys, values = keys.gather(2, index), values.gather(2, index)
            mask.append([[j < len(head) for j in range(size)] for head in rows[i]])
        some.update(keys.clone(), values.clone(), i)
    positions = torch.arange(start, start + len(given))
    hooks = []
    if rows and any(not all(line) for layer in mask for line in layer):
        hooks = ragged(model, mask, len(given))
    out = model(
        torch.tensor([given]), past_key_values=some, position_ids=positions[None], cache_position=positions - start + size
    )
    for one in hooks:
        one.remove()
    logp = torch.log_softmax(out.logits[0].double(), dim=-1)
    at = range(len(case["second"]) - 1, len(given) - 1)
    told = [logp[i, given[i + 1]].item() for i in at]
    exact = all(int(logp[i].argmax()) == given[i + 1] for i in at)
    return {"logp": sum(told) / len(told), "exact": exact}


def ragged(model, mask, n):
    """Heads that keep unlike numbers of rows: padding is masked, head by head."""
    group = model.config.num_attention_heads // model.config.num_key_value_heads
    hooks = []
    for layer, lines in zip(model.model.layers, mask):
        seen = torch.tensor(lines).repeat_interleave(group, 0)[None, :, None, :].expand(-1, -1, n, -1)
        own = torch.ones(n, n, dtype=torch.bool).tril()[None, None].expand(1, seen.shape[1], -1, -1)
        whole = torch.cat([seen, own], dim=-1)

        def hook(module, args, kwargs, whole=whole):
            return args, {**kwargs, "attention_mask": whole}

        hooks.append(layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True))
    return hooks


def timed(model, ids, steps):
    """A press as its authors run it: tokens a second of the prompt and of generated tokens, bytes of the cache."""
    found = {}
    for name, ratio in [("none", 0.0), ("snapkv", 0.75), ("adaKv", 0.75), ("expectedAttention", 0.75)]:
        press = PRESSES[name if name != "none" else "snapkv"](ratio)
        cache, start = DynamicCache(), time.perf_counter()
        with press(model):
            out = model(torch.tensor([ids]), past_key_values=cache, logits_to_keep=1)
        read = time.perf_counter() - start
        token, start = out.logits[:, -1:].argmax(-1), time.perf_counter()
        for step in range(steps):
            at = torch.tensor([len(ids) + step])
            out = model(token, past_key_values=cache, position_ids=at[None])
            token = out.logits[:, -1:].argmax(-1)
        wrote = time.perf_counter() - start
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        found[name] = {"prefill": len(ids) / read, "decode": steps / wrote, "bytes": held}
        for layer in model.model.layers:
            layer.self_attn.masked_key_indices = None
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found


@torch.no_grad()
def main(path: str, cases_path: str, out_path: str) -> None:
    with open(cases_path) as file:
        asked = json.load(file)
    torch.set_num_threads(asked["threads"])
    model = load(path)
    if asked.get("speed"):
        with open(out_path, "w") as file:
            json.dump(timed(model, asked["speed"]["ids"], asked["speed"]["steps"]), file)
        return
    found = []
    for i, case in enumerate(asked["cases"]):
        print(f"kvpress: case {i + 1} of {len(asked['cases'])}", file=sys.stderr)
        cache, rows = prefill(model, case["first"], case["budgets"], asked["methods"])
        one = {"rows": rows}
        if case.get("answer"):
            one["full"] = answer(model, cache, None, case)
            one["answers"] = {n: {b: answer(model, cache, r, case) for b, r in of.items()} for n, of in rows.items()}
        found.append(one)
        with open(out_path, "w") as file:  # after every case: what there is can be compared
            json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
