"""The parts that random networks are drawn from: ordinary modules, as users write them.

A block whose `sized` is set reads or writes at places that are numbers in its forward, so that its
own class can run with other widths and compute something else.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self, inner: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.inner, self.shortcut = inner, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + (x if self.shortcut is None else self.shortcut(x))


class Concatenate(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Apply(nn.Module):
    """A function between layers."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, sized: bool = False) -> None:
        super().__init__()
        self.function, self.sized = function, sized

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


# --- maps ----------------------------------------------------------------------------------------


class SplitApart(nn.Module):
    """Sends the two parts of the channels through different layers and joins them again."""

    def __init__(self, first: int, second: int, out: int, chunk: bool) -> None:
        super().__init__()
        self.sizes = (first, second)
        self.chunk = chunk
        self.left = nn.Conv2d(first, out, 1)
        self.right = nn.Conv2d(second, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1) if self.chunk else torch.split(x, self.sizes, 1)
        return self.left(a) * torch.tanh(self.right(b))


class SqueezeExcite(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.relu(self.down(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.up(scale))


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2)
        return x.reshape(n, c, h, w)


class PaddedShortcut(nn.Module):
    """Option A of ResNet: zeros for the channels that the shortcut lacks."""

    sized = True

    def __init__(self, width: int, front: int, rear: int, stride: int) -> None:
        super().__init__()
        self.stride, self.pad = stride, (0, 0, 0, 0, front, rear)
        self.conv = nn.Conv2d(width, width + front + rear, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + F.pad(x[:, :, :: self.stride, :: self.stride], self.pad)


class FunctionalConv(nn.Module):
    """Weights that are parameters of the module itself, plain or depthwise."""

    def __init__(self, width: int, out: int, depthwise: bool) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.randn(out, width, 1, 1))
        self.deep = nn.Parameter(torch.randn(out, 1, 3, 3)) if depthwise else None
        self.scale, self.shift = nn.Parameter(torch.ones(out)), nn.Parameter(torch.zeros(out, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.point)
        if self.deep is not None:
            x = F.conv2d(x, self.deep, padding=1, groups=self.deep.shape[0])
        return x * self.scale[:, None, None] + self.shift


class PixelAttention(nn.Module):
    """Pixels look at each other, as in SAGAN."""

    def __init__(self, width: int, inner: int, squash: bool) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(width, inner, 1), nn.Conv2d(width, inner, 1)
        self.value, self.squash = nn.Conv2d(width, width, 1), squash

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x).flatten(2), self.key(x).flatten(2), self.value(x).flatten(2)
        if self.squash:  # then a removed channel would still count a quarter
            q, k = q.sigmoid(), k.sigmoid()
        weights = torch.bmm(q.transpose(1, 2), k).softmax(-1)
        return x + torch.bmm(v, weights.transpose(1, 2)).view_as(x)


class Head(nn.Module):
    """Flattens, with the size counted or written down, or pools; then two linear layers."""

    def __init__(self, width: int, side: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.features = width * side * side if kind != "pool" else width
        self.hidden = nn.Linear(self.features, 12)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "pool":
            x = x.mean((2, 3))
        elif self.kind == "constant":
            x = x.view(-1, self.features)
        else:
            x = torch.flatten(x, 1)
        return self.out(torch.relu(self.hidden(x)))


# --- tokens, (batch, tokens, width) --------------------------------------------------------------


class Stem(nn.Module):
    """Makes tokens of a picture of (3, 8, 8): patches, lines, or words for its brightness."""

    TOKENS = {"patches": 16, "lines": 8, "words": 16}  # noqa: RUF012

    def __init__(self, kind: str, width: int, *, position: bool, extra: bool) -> None:
        super().__init__()
        self.kind = kind
        makes = {"patches": nn.Conv2d(3, width, 2, 2), "lines": nn.Linear(24, width)}
        self.make = makes.get(kind) or nn.Embedding(9, width, padding_idx=0)
        tokens = self.TOKENS[kind] + extra
        self.first = nn.Parameter(torch.randn(1, 1, width)) if extra else None
        self.place = nn.Parameter(torch.randn(1, tokens, width)) if position else None

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "patches":
            x = self.make(x).flatten(2).transpose(1, 2)
        elif self.kind == "lines":
            x = self.make(x.permute(0, 2, 1, 3).flatten(2))
        else:
            x = self.make((2 * x[:, 0, :2]).round().clamp(-4, 4).long().flatten(1) + 4)
        if self.first is not None:
            x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1)
        return x if self.place is None else x + self.place


class PreNorm(nn.Module):
    def __init__(self, norm: nn.Module, inner: nn.Module) -> None:
        super().__init__()
        self.norm, self.inner = norm, inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(self.norm(x))


def rotated(x: Tensor) -> Tensor:
    """Turn the features of (..., tokens, width) in pairs by an angle that grows with the token."""
    rates = 10.0 ** -torch.arange(x.shape[-1] // 2, dtype=x.dtype, device=x.device)
    angles = torch.arange(x.shape[-2], dtype=x.dtype, device=x.device)[:, None] * rates
    angles = torch.cat([angles, angles], -1)
    first, second = x.chunk(2, -1)
    return x * angles.cos() + torch.cat([-second, first], -1) * angles.sin()


class Attention(nn.Module):
    """Attention by hand: one layer or three, grouped queries, a mask, a rotation, several kernels.

    Args:
        width: Of the tokens.
        heads: Of the queries.
        depth: Width of a head.
        fused: Whether one layer makes queries, keys and values.
        shared: How many heads of queries share one of keys and values; 1 if fused.
        kernel: "softmax", "function" (of PyTorch), "sigmoid" or "linear".
        scale: "number", "shape" (read from the tensor) or "none".
        causal: Whether tokens look back only.
        rotary: Whether queries and keys are rotated.
    """

    sized = True

    def __init__(
        self, width: int, heads: int, depth: int, *, fused: bool, shared: int, kernel: str,
        scale: str, causal: bool, rotary: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.depth, self.shared, self.kernel = heads, depth, shared, kernel
        self.scale, self.causal, self.rotary = scale, causal, rotary
        inner = heads * depth
        if fused:
            self.qkv = nn.Linear(width, 3 * inner)
        else:
            self.q, self.k, self.v = (nn.Linear(width, n) for n in (inner, *[inner // shared] * 2))
        self.out = nn.Linear(inner, width, bias=not fused)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n, _ = x.shape
        if hasattr(self, "qkv"):
            return self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k, v = (
            f(x).view(b, n, -1, self.depth).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        if self.shared > 1 and self.kernel != "function":
            k = k.repeat_interleave(self.shared, dim=1)
            v = v[:, :, None].expand(-1, -1, self.shared, -1, -1).flatten(1, 2)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.parts(x)
        if self.rotary:
            q, k = rotated(q), rotated(k)
        scale = {"number": self.depth**-0.5, "shape": q.shape[-1] ** -0.5, "none": 1.0}[self.scale]
        if self.kernel == "function":
            given = {} if self.scale == "shape" else {"scale": scale}
            grouped = {"enable_gqa": True} if self.shared > 1 else {}
            found = F.scaled_dot_product_attention(
                q, k, v, is_causal=self.causal, **given, **grouped
            )
        elif self.kernel == "linear":
            q, k = F.elu(q) + 1, F.elu(k) + 1
            memory = torch.einsum("bhnd,bhne->bhde", k, v)
            found = torch.einsum("bhnd,bhde->bhne", q, memory)
            found = found / (1 + torch.einsum("bhnd,bhd->bhn", q, k.sum(2)))[..., None]
        else:
            if self.kernel == "sigmoid":
                q, k = q.sigmoid(), k.sigmoid()
            weights = (q @ k.transpose(-2, -1)) * scale
            if self.causal:
                hidden = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
                weights = weights.masked_fill(hidden, -math.inf)
            found = weights.softmax(-1) @ v
        return self.out(found.transpose(1, 2).reshape(b, n, -1))


class SelfAttention(nn.Module):
    """PyTorch's own layer."""

    sized = True

    def __init__(self, width: int, heads: int, weights: bool) -> None:
        super().__init__()
        self.weights = weights
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, x, x, need_weights=self.weights)[0]


class SizedEncoderLayer(nn.TransformerEncoderLayer):
    sized = True


class Recurrent(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Gated(nn.Module):
    """GLU, GEGLU or SwiGLU."""

    def __init__(self, width: int, hidden: int, out: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.up = nn.Linear(width, hidden if kind == "swiglu" else 2 * hidden)
        self.gate = nn.Linear(width, hidden) if kind == "swiglu" else None
        self.down = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is not None:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        if self.kind == "glu":
            return self.down(F.glu(self.up(x), -1))
        value, gate = self.up(x).chunk(2, -1)
        return self.down(value * F.gelu(gate))


class MixTokens(nn.Module):
    """A layer over the tokens, as in MLP-Mixer."""

    def __init__(self, tokens: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(tokens, hidden), nn.Linear(hidden, tokens)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(x.transpose(1, 2)))).transpose(1, 2)


class Functional(nn.Module):
    """Parameters of the module itself in products, sums and scales."""

    def __init__(self, width: int, out: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.randn((width, out) if kind == "einsum" else (out, width)))
        self.bias, self.scale = nn.Parameter(torch.zeros(out)), nn.Parameter(torch.ones(1, 1, out))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "einsum":
            x = torch.einsum("bti,io->bto", x, self.weight) + self.bias
        elif self.kind == "matmul":
            x = torch.matmul(x, self.weight.t()).add_(self.bias)
        else:
            x = F.linear(x, self.weight, self.bias)
        return x * self.scale


class Written(nn.Module):
    """Two layers write into slices of one tensor."""

    sized = True

    def __init__(self, width: int, first: int, second: int) -> None:
        super().__init__()
        self.cut, self.all = first, first + second
        self.left, self.right = nn.Linear(width, first), nn.Linear(width, second)

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(x.shape[0], x.shape[1], self.all)
        out[..., : self.cut] = self.left(x)
        out[..., self.cut :] = torch.tanh(self.right(x))
        return out


class Repeated(nn.Module):
    """Each gate serves two adjacent channels."""

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.gate, self.kind = nn.Linear(width, width // 2), kind

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        if self.kind == "interleave":
            return x * gate.repeat_interleave(2, -1)
        if self.kind == "expand":
            return x * gate.unsqueeze(-1).expand(-1, -1, -1, 2).flatten(-2)
        return x * torch.cat([gate, gate], -1)


class Branches(nn.Module):
    """Stacks two layers' outputs and makes one of them; or multiplies and sums them."""

    def __init__(self, width: int, out: int, kind: str) -> None:
        super().__init__()
        self.first, self.second, self.kind = nn.Linear(width, out), nn.Linear(width, out), kind
        self.last = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        if self.kind == "largest":
            return torch.stack([a, b], 2).amax(2)
        if self.kind == "weighed":
            both = torch.stack([a, b])
            return (both * both.softmax(0)).sum(0)
        if self.kind == "unbound":
            a, b = torch.stack([a, b], dim=1).unbind(1)
            return torch.maximum(a, b) - a
        score = (a * b).sum(-1, keepdim=True)
        return self.last(a) * torch.tanh(score)


class Learned(nn.Module):
    """Learned queries look at the tokens, as in a perceiver."""

    def __init__(self, width: int, queries: int, out: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, out))
        self.keys, self.values = nn.Linear(width, out), nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.einsum("qd,btd->bqt", self.queries, self.keys(x)).softmax(-1)
        return torch.bmm(weights, self.values(x))


class Bilinear(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.left, self.form = nn.Linear(width, 4), nn.Bilinear(4, width, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.form(self.left(x), x.contiguous())


class TokenHead(nn.Module):
    """One vector for all tokens, and an output of one of several forms."""

    def __init__(self, width: int, tokens: int, kind: str, form: str) -> None:
        super().__init__()
        self.kind, self.form = kind, form
        self.hidden = nn.Linear(width * tokens if kind == "flatten" else width, 10)
        self.out = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> object:
        if self.kind == "mean":
            x = x.mean(1)
        elif self.kind == "first":
            x = x[:, 0]
        elif self.kind == "largest":
            x = x.amax(1)
        elif self.kind == "flatten":
            x = x.flatten(1)
        x = self.out(F.relu(self.hidden(x)))
        return {"tensor": x, "dict": {"logits": x}, "tuple": (x, [x.softmax(-1)])}[self.form]
