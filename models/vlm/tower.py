"""The vision tower and the projector: pixels -> patch rows -> rows for the decoder.

Weights are kept in float32; the arithmetic runs in the type of the pixels (bfloat16 in training, float32 elsewhere).
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TowerShape:
    image: int = 168
    patch: int = 14
    width: int = 192
    layers: int = 5
    heads: int = 3
    hidden: int = 768
    class_token: bool = True
    pre_norm: bool = False
    post_norm: bool = False
    patch_bias: bool = False
    activation: str = "gelu_tanh"  # or gelu_erf, gelu_quick
    epsilon: float = 1e-5

    @property
    def side(self) -> int:
        return self.image // self.patch

    @property
    def tokens(self) -> int:
        return self.side * self.side + int(self.class_token)


def linear(x, layer):
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)


def norm(x, layer):
    return F.layer_norm(x, layer.normalized_shape, layer.weight.to(x.dtype), layer.bias.to(x.dtype), layer.eps)


def activate(x, name):
    if name == "gelu_quick":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")


class TowerLayer(nn.Module):
    def __init__(self, shape: TowerShape):
        super().__init__()
        self.shape = shape
        width, hidden = shape.width, shape.hidden
        self.ln1 = nn.LayerNorm(width, shape.epsilon)
        self.attn_q = nn.Linear(width, width)
        self.attn_k = nn.Linear(width, width)
        self.attn_v = nn.Linear(width, width)
        self.attn_out = nn.Linear(width, width)
        self.ln2 = nn.LayerNorm(width, shape.epsilon)
        self.ffn_up = nn.Linear(width, hidden)
        self.ffn_down = nn.Linear(hidden, width)

    def forward(self, x, trace=None):
        batch, tokens, width = x.shape
        heads, size = self.shape.heads, width // self.shape.heads
        parts = (self.attn_q, self.attn_k, self.attn_v)
        weight = torch.cat([p.weight for p in parts]).to(x.dtype)
        bias = torch.cat([p.bias for p in parts]).to(x.dtype)
        rows = F.linear(norm(x, self.ln1), weight, bias).view(batch, tokens, 3, heads, size)
        q, k, v = (part.transpose(1, 2).reshape(batch * heads, tokens, size) for part in rows.unbind(2))
        shares = torch.softmax(torch.bmm(q, k.transpose(1, 2)) * size**-0.5, -1)
        mixed = torch.bmm(shares, v).view(batch, heads, tokens, size).transpose(1, 2).reshape(batch, tokens, width)
        x = x + linear(mixed, self.attn_out)
        x = x + linear(activate(linear(norm(x, self.ln2), self.ffn_up), self.shape.activation), self.ffn_down)
        if trace is not None:
            trace["keys"].append(k.view(batch, heads, tokens, size).transpose(1, 2).reshape(batch, tokens, width))
            trace["attention"].append(shares.view(batch, heads, tokens, tokens))
            trace["hidden"].append(x)
        return x


class Tower(nn.Module):
    def __init__(self, shape: TowerShape):
        super().__init__()
        self.shape = shape
        self.patch_embd = nn.Linear(3 * shape.patch**2, shape.width, bias=shape.patch_bias)
        if shape.class_token:
            self.class_embd = nn.Parameter(0.02 * torch.randn(shape.width))
        self.position_embd = nn.Parameter(0.02 * torch.randn(shape.tokens, shape.width))
        if shape.pre_norm:
            self.pre_ln = nn.LayerNorm(shape.width, shape.epsilon)
        self.blk = nn.ModuleList(TowerLayer(shape) for _ in range(shape.layers))
        if shape.post_norm:
            self.post_ln = nn.LayerNorm(shape.width, shape.epsilon)

    def patches(self, pixels):
        """[batch, 3, image, image] -> [batch, side * side, 3 * patch * patch], patches as a convolution sees them."""
        side, patch = self.shape.side, self.shape.patch
        cells = pixels.view(-1, 3, side, patch, side, patch).permute(0, 2, 4, 1, 3, 5)
        return cells.reshape(-1, side * side, 3 * patch * patch)

    def forward(self, pixels, trace=None):
        """Normalised pixels -> rows [batch, tokens, width], the class token first where there is one."""
        x = linear(self.patches(pixels), self.patch_embd)
        if self.shape.class_token:
            first = self.class_embd.to(x.dtype).expand(x.shape[0], 1, -1)
            x = torch.cat([first, x], 1)
        x = x + self.position_embd.to(x.dtype)
        if self.shape.pre_norm:
            x = norm(x, self.pre_ln)
        if trace is not None:
            trace.update(keys=[], attention=[], hidden=[x])
        for layer in self.blk:
            x = layer(x, trace)
        return norm(x, self.post_ln) if self.shape.post_norm else x

    def without_class(self, rows):
        return rows[:, int(self.shape.class_token) :]


class Projector(nn.Module):
    """`mlp`: two layers with an exact GELU; `linear`: one; `idefics3`: scale * scale patches side by side, then one."""

    def __init__(self, kind: str, width: int, hidden: int, out: int, input_norm: bool = False, scale: int = 1):
        super().__init__()
        self.kind, self.scale = kind, scale
        if input_norm:
            self.input_norm = nn.LayerNorm(width)
        if kind == "mlp":
            self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, out)
        elif kind == "linear":
            self.first = nn.Linear(width, out)
        else:
            self.fc = nn.Linear(width * scale * scale, out, bias=False)

    def forward(self, rows):
        """[batch, patches, width] -> [batch, patches (/ scale^2), out]"""
        if hasattr(self, "input_norm"):
            rows = norm(rows, self.input_norm)
        if self.kind == "mlp":
            return linear(F.gelu(linear(rows, self.first)), self.second)
        if self.kind == "linear":
            return linear(rows, self.first)
        return linear(shuffle(rows, self.scale), self.fc)


def shuffle(rows, scale):
    """Each block of scale x scale patches becomes one row: its patches row by row, one after the other."""
    batch, patches, width = rows.shape
    small = int(patches**0.5) // scale
    blocks = rows.view(batch, small, scale, small, scale, width).permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, small * small, scale * scale * width)


def sines(side: int, width: int, class_token: bool):
    """Positions to begin with: sines and cosines of row and column, half of the width for each."""
    quarter = width // 4
    waves = 1 / (100 ** (torch.arange(quarter) / quarter))
    place = torch.arange(side)[:, None] * waves
    one = torch.cat([place.sin(), place.cos()], 1)
    rows = torch.cat([one[:, None].expand(side, side, -1), one[None].expand(side, side, -1)], 2).reshape(side**2, width)
    return torch.cat([torch.zeros(1, width), rows]) if class_token else rows


def start(tower: Tower):
    """Positions as sines and keys like queries: attention begins by looking at what is near and alike."""
    shape = tower.shape
    with torch.no_grad():
        tower.position_embd.copy_(0.5 * sines(shape.side, shape.width, shape.class_token))
        for layer in tower.blk:
            layer.attn_q.weight.copy_(0.7 * torch.randn(shape.width, shape.width) * shape.width**-0.5)
            layer.attn_k.weight.copy_(layer.attn_q.weight)
            for part in (layer.attn_q, layer.attn_k, layer.attn_v, layer.attn_out, layer.ffn_up, layer.ffn_down):
                part.bias.zero_()
    return tower
