"""Muon for matrices, Adam for all else. With several processes each orthogonalises its share of the matrices."""

import torch
import torch.distributed as dist
from torch.nn import functional as F


def orthogonal(g):
    """The nearest matrix with equal singular values, roughly: five Newton-Schulz steps in bfloat16 (Keller Jordan)."""
    x = g.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T.contiguous()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = F.linear(x, x)
        b = -4.775 * a + 2.0315 * F.linear(a, a)
        x = 3.4445 * x + F.linear(b, x.T.contiguous())
    return (x.T if tall else x).float()


class Optimizer:
    def __init__(self, named, matrices, rank=0, world=1):
        """`matrices(name, parameter)` says which parameters are Muon's."""
        named = [(n, p) for n, p in named if p.requires_grad]
        self.rank, self.world = rank, world
        self.muon = [p for n, p in named if matrices(n, p)]
        self.adam = [p for n, p in named if not matrices(n, p)]
        self.momentum = [torch.zeros_like(p) for p in self.muon]
        self.first = [torch.zeros_like(p) for p in self.adam]
        self.second = [torch.zeros_like(p) for p in self.adam]
        self.steps = 0
        self.owner = share(self.muon, world)

    def sum_gradients(self):
        """Gradients of all processes, averaged."""
        if self.world == 1:
            return
        all_params = self.muon + self.adam
        flat = torch.cat([p.grad.reshape(-1) for p in all_params])
        dist.all_reduce(flat)
        flat /= self.world
        for p, g in zip(all_params, flat.split([p.numel() for p in all_params])):
            p.grad.copy_(g.view_as(p))

    @torch.no_grad()
    def step(self, muon_rate, adam_rate, clip=1.0):
        for p in self.muon + self.adam:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        self.sum_gradients()
        self.steps += 1
        self.step_muon(muon_rate)
        self.step_adam(adam_rate, clip)
        for p in self.muon + self.adam:
            p.grad = None

    def step_muon(self, rate):
        updates = []
        for p, m, owner in zip(self.muon, self.momentum, self.owner):
            m.lerp_(p.grad, 0.05)
            mine = owner == self.rank and bool(m.any())
            updates.append(orthogonal(p.grad.lerp(m, 0.95)) if mine else torch.zeros_like(p))
        if self.world > 1:
            flat = torch.cat([u.reshape(-1) for u in updates])
            dist.all_reduce(flat)
            updates = flat.split([p.numel() for p in self.muon])
        for p, u in zip(self.muon, updates):
            p.sub_(u.view_as(p), alpha=rate * max(1, p.shape[0] / p.shape[1]) ** 0.5)

    def step_adam(self, rate, clip):
        length = torch.stack([p.grad.norm() for p in self.adam]).norm()
        factor = min(1.0, clip / (float(length) + 1e-9))
        fix1, fix2 = 1 - 0.9**self.steps, 1 - 0.98**self.steps
        for p, m, v in zip(self.adam, self.first, self.second):
            g = p.grad * factor
            m.lerp_(g, 0.1)
            v.lerp_(g * g, 0.02)
            p.addcdiv_(m, (v / fix2).sqrt_().add_(1e-8), value=-rate / fix1)

    def state(self):
        return {"momentum": self.momentum, "first": self.first, "second": self.second, "steps": self.steps}

    def load(self, state):
        for name in ("momentum", "first", "second"):
            for mine, saved in zip(getattr(self, name), state[name], strict=True):
                mine.copy_(saved)
        self.steps = state["steps"]


def share(matrices, world):
    """Which process does which matrix, so that all have about the same work."""
    load, owner = [0.0] * world, [0] * len(matrices)
    cost = lambda p: min(p.shape) ** 2 * max(p.shape)
    for i in sorted(range(len(matrices)), key=lambda i: -cost(matrices[i])):
        owner[i] = load.index(min(load))
        load[owner[i]] += cost(matrices[i])
    return owner
