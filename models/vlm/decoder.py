"""The language model: a Llama whose prompts share a picture, so that many questions cost one reading of it."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

import words
from tower import linear

BEFORE = 2  # <bos><user>
LONGEST = 1024  # positions that training may use


@dataclass(frozen=True)
class DecoderShape:
    vocabulary: int = words.SIZE
    width: int = 192
    layers: int = 7
    heads: int = 6
    kv_heads: int = 2
    size: int = 32
    hidden: int = 512
    base: float = 500000.0
    epsilon: float = 1e-5


class UnitRms(torch.autograd.Function):
    """x / rms(x) by rows, with few passes over memory; the norm's weights go into the matrix that follows."""

    @staticmethod
    def forward(ctx, x, epsilon):
        wide = torch.promote_types(x.dtype, torch.float32)
        mean = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square() / x.shape[-1]
        scale = torch.rsqrt(mean + epsilon).to(x.dtype)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx, dy):
        y, scale = ctx.saved_tensors
        along = (dy * y).mean(-1, keepdim=True)
        return torch.addcmul(dy, y, along, value=-1).mul_(scale), None


class Turn(torch.autograd.Function):
    """Rotates pairs (i, i + half) of each head by the angles of its position; backwards it turns the other way."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return turn(x, cos, sin)

    @staticmethod
    def backward(ctx, dy):
        cos, sin = ctx.saved_tensors
        return turn(dy, cos, -sin), None, None


def turn(x, cos, sin):
    """x [n, heads, size]; cos [n, 1, size] twice the same, sin with a minus in its first half."""
    half = x.shape[-1] // 2
    return torch.addcmul(x * cos, torch.cat([x[..., half:], x[..., :half]], -1), sin)


def normed(x, weight, matrices, epsilon):
    """The matrices, one under the other, applied to the RMS norm of x."""
    whole = torch.cat([m.weight for m in matrices]) * weight
    return F.linear(UnitRms.apply(x, epsilon), whole.to(x.dtype))


class DecoderLayer(nn.Module):
    def __init__(self, s: DecoderShape):
        super().__init__()
        self.attn_norm, self.ffn_norm = (nn.Parameter(torch.ones(s.width)) for _ in range(2))
        self.attn_q = nn.Linear(s.width, s.heads * s.size, bias=False)
        self.attn_k = nn.Linear(s.width, s.kv_heads * s.size, bias=False)
        self.attn_v = nn.Linear(s.width, s.kv_heads * s.size, bias=False)
        self.attn_output = nn.Linear(s.heads * s.size, s.width, bias=False)
        self.ffn_gate = nn.Linear(s.width, s.hidden, bias=False)
        self.ffn_up = nn.Linear(s.width, s.hidden, bias=False)
        self.ffn_down = nn.Linear(s.hidden, s.width, bias=False)

    def feed(self, x, epsilon):
        gate, up = normed(x, self.ffn_norm, (self.ffn_gate, self.ffn_up), epsilon).chunk(2, -1)
        return x + linear(F.silu(gate) * up, self.ffn_down)


class Questions:
    """Questions of several pictures: `slots` are the places of their tokens in [pictures, most, longest]."""

    def __init__(self, ids, pictures, most, longest, slots, offsets):
        self.ids, self.slots, self.offsets = ids, slots, offsets  # [n] each; offset: place within its question
        self.pictures, self.most, self.longest = pictures, most, longest


class Decoder(nn.Module):
    def __init__(self, shape: DecoderShape = DecoderShape()):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Parameter(0.05 * torch.randn(shape.vocabulary, shape.width))
        self.blk = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.layers))
        self.output_norm = nn.Parameter(torch.ones(shape.width))
        self.start()
        half = shape.size // 2
        turns = torch.arange(LONGEST)[:, None] * shape.base ** (-torch.arange(half) / half)
        self.register_buffer("turns", torch.stack([turns.cos(), turns.sin()]), persistent=False)

    def start(self):
        """Attention begins by matching what is alike and copying what it finds: queries as keys, outputs as values."""
        s = self.shape
        group = lambda w: w.view(s.kv_heads, 1, s.size, s.width).expand(-1, s.heads // s.kv_heads, -1, -1)
        with torch.no_grad():
            for layer in self.blk:
                layer.attn_k.weight.mul_(1.3)
                layer.attn_q.weight.copy_(group(layer.attn_k.weight).reshape(-1, s.width))
                layer.attn_output.weight.copy_(0.5 * group(layer.attn_v.weight).reshape(-1, s.width).T)

    def angles(self, positions, dtype):
        cos, sin = self.turns[:, positions]
        return torch.cat([cos, cos], -1)[:, None].to(dtype), torch.cat([-sin, sin], -1)[:, None].to(dtype)

    def forward(self, image, q: Questions, watch=(), calm=0.0, tap=None):
        """Image rows [pictures, 144, width], of films frame after frame -> text rows [n, width] before the last norm,
        and for each layer in `watch` what each token's heads give to the image rows: [pictures, kv, 3, most, longest,
        144]; under "rows" the image rows after layer `tap`.
        `calm` is added to the scores of image rows for text in the first layer."""
        s, p, context = self.shape, image.shape[0], BEFORE + image.shape[1]
        embed = self.token_embd.to(image.dtype)
        first = embed[[words.BOS, words.USER]].expand(p, -1, -1)
        x = torch.cat([torch.cat([first, image], 1).reshape(p * context, -1), embed[q.ids]])
        angles = self.angles(torch.cat([torch.arange(context).repeat(p), context + q.offsets]), x.dtype)
        seen = {}
        for i, layer in enumerate(self.blk):
            last = i == s.layers - 1
            matrices = (layer.attn_q, layer.attn_k, layer.attn_v)
            rows = normed(x, layer.attn_norm, matrices, s.epsilon).view(len(x), -1, s.size)
            # split, not slices: the gradient of a slice is as large as what it was cut from
            turned, vs = rows.split([s.heads + s.kv_heads, s.kv_heads], 1)
            qs, ks = Turn.apply(turned, *angles).split([s.heads, s.kv_heads], 1)
            (q0, q1), (k0, k1), (v0, v1) = (t.split([p * context, len(q.ids)]) for t in (qs, ks, vs))
            k, v = (self.by_head(t, p, s.kv_heads) for t in (k0, v0))  # [p * kv, context, size]
            text, shares = self.look(q1, k1, v1, k, v, q, calm if i == 0 else 0.0)
            if i in watch:
                seen[i] = shares[..., BEFORE:]
            mixed = text if last else torch.cat([self.causal(q0, k, v, p), text])
            x = (x[p * context :] if last else x) + linear(mixed, layer.attn_output)
            x = layer.feed(x, s.epsilon)
            if i == tap:
                seen["rows"] = x[: p * context].view(p, context, -1)[:, BEFORE:]
        return x, seen

    def by_head(self, rows, p, heads):
        """[p * n, heads, size] -> [p * heads, n, size]"""
        size = self.shape.size
        return rows.reshape(p, -1, heads, size).transpose(1, 2).reshape(p * heads, -1, size)

    def causal(self, qs, k, v, p):
        s = self.shape
        group, context = s.heads // s.kv_heads, k.shape[1]
        q = self.by_head(qs, p, s.heads).reshape(p * s.kv_heads, group * context, s.size)
        scores = (torch.bmm(q, k.transpose(1, 2)) * s.size**-0.5).view(-1, group, context, context)
        hidden = torch.ones(context, context, dtype=torch.bool).triu(1)
        shares = torch.softmax(scores.masked_fill(hidden, float("-inf")), -1)
        mixed = torch.bmm(shares.view(-1, group * context, context), v)
        return mixed.view(p, s.heads, context, s.size).transpose(1, 2).reshape(p * context, -1)

    def look(self, qs, ks, vs, k, v, q: Questions, calm):
        """Text rows look at the shared context and at their own question so far."""
        s, p, m, n = self.shape, q.pictures, q.most, q.longest
        g, kv, d = s.heads // s.kv_heads, s.kv_heads, s.size
        context = k.shape[1]
        spread = lambda rows: rows.new_zeros(p * m * n, *rows.shape[1:]).index_copy(0, q.slots, rows)
        query = spread(qs).view(p, m, n, kv, g, d)
        far = torch.bmm(query.permute(0, 3, 4, 1, 2, 5).reshape(p * kv, g * m * n, d), k.transpose(1, 2))
        own_k, own_v = (spread(t).view(p, m, n, kv, d).transpose(2, 3).reshape(p * m * kv, n, d) for t in (ks, vs))
        near = torch.bmm(query.permute(0, 1, 3, 4, 2, 5).reshape(p * m * kv, g * n, d), own_k.transpose(1, 2))
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
        near = near.view(-1, g, n, n).masked_fill(hidden, float("-inf")).view(p, m, kv, g, n, n)
        far = far.view(p, kv, g, m, n, context)
        scores = torch.cat([far, near.permute(0, 2, 3, 1, 4, 5)], -1) * d**-0.5
        if calm:
            bias = scores.new_zeros(context + n)
            bias[BEFORE:context] = calm
            scores = scores + bias
        shares = torch.softmax(scores, -1)
        far, near = shares.split([context, n], -1)
        looks = far
        mixed = torch.bmm(far.reshape(p * kv, g * m * n, context), v).view(p, kv, g, m, n, d).permute(0, 3, 4, 1, 2, 5)
        near = near.permute(0, 3, 1, 2, 4, 5).reshape(p * m * kv, g * n, n)
        own = torch.bmm(near, own_v).view(p, m, kv, g, n, d).permute(0, 1, 4, 2, 3, 5)
        mixed = (mixed + own).reshape(p * m * n, -1)
        return mixed[q.slots], looks

    def logits(self, rows):
        unit = UnitRms.apply(rows, self.shape.epsilon)
        return F.linear(unit, (self.token_embd * self.output_norm).to(rows.dtype))
