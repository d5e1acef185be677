"""Random small networks: chains, residuals, concatenations, splits, grouped and depthwise layers.

A network is drawn as a list of steps on a feature map, then flattened or pooled into linear layers.
Every step is an ordinary module, so what is tested is what users write.
"""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

KINDS = (
    *("chain", "residual", "projected", "concat", "split", "grouped", "depthwise"),
    *("excite", "transposed", "shuffle", "pool", "group_norm", "twice"),
)
ACTIVATIONS = (nn.ReLU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Hardswish, nn.LeakyReLU)


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


Draw = Callable[..., object]


@st.composite
def networks(draw: Draw) -> nn.Module:
    """A network for inputs of shape (batch, 3, 8, 8)."""
    integers, choose = st.integers, st.sampled_from
    width, layers, side = 3, [], 8
    for _ in range(draw(integers(1, 4))):
        kind = draw(choose(KINDS))
        out = 2 * draw(integers(2, 6))
        activation = draw(choose(ACTIVATIONS))()
        if kind == "chain":
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), activation]
            width = out
        elif kind == "residual":
            inner = [nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), activation]
            layers.append(Residual(nn.Sequential(*inner, nn.Conv2d(out, width, 1))))
        elif kind == "projected":
            inner = [nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)]
            layers += [Residual(nn.Sequential(*inner), nn.Conv2d(width, out, 1)), activation]
            width = out
        elif kind == "concat":
            second = draw(integers(1, 5))
            layers.append(Concatenate(nn.Conv2d(width, out, 1), nn.Conv2d(width, second, 1)))
            if draw(st.booleans()):
                layers.append(Concatenate(nn.Identity(), nn.Conv2d(out + second, 4, 1)))
                width = out + second + 4
            else:
                width = out + second
        elif kind == "split":
            chunk = draw(st.booleans())
            total = width + width % 2 if chunk else width + 1
            first = total // 2 if chunk else draw(integers(1, total - 1))
            layers += [nn.Conv2d(width, total, 1), SplitApart(first, total - first, out, chunk)]
            width = out
        elif kind == "grouped":
            groups = draw(choose([2, 4]))
            layers += [
                nn.Conv2d(width, 2 * groups, 1),
                nn.Conv2d(2 * groups, 3 * groups, 3, padding=1, groups=groups),
                activation,
            ]
            width = 3 * groups
        elif kind == "depthwise":
            multiplier = draw(integers(1, 2))
            layers += [
                nn.Conv2d(width, out, 1),
                nn.Conv2d(out, out * multiplier, 3, padding=1, groups=out),
                nn.BatchNorm2d(out * multiplier),
                activation,
            ]
            width = out * multiplier
        elif kind == "excite":
            layers += [nn.Conv2d(width, out, 1), SqueezeExcite(out, 4)]
            width = out
        elif kind == "transposed":
            groups = draw(choose([1, 2, out]))
            layers += [nn.Conv2d(width, out, 1), nn.ConvTranspose2d(out, out, 1, groups=groups)]
            width = out
        elif kind == "shuffle":
            layers += [nn.Conv2d(width, out, 1), Shuffle(2), activation]
            width = out
        elif kind == "pool" and side > 2:
            layers.append(draw(choose([nn.MaxPool2d, nn.AvgPool2d]))(2))
            side //= 2
        elif kind == "group_norm":
            layers += [nn.Conv2d(width, out, 1), nn.GroupNorm(draw(choose([1, 2, out])), out)]
            width = out
        elif kind == "twice":
            shared = nn.Conv2d(out, out, 3, padding=1)
            layers += [nn.Conv2d(width, out, 1), shared, activation, shared]
            width = out
    layers.append(Head(width, side, draw(choose(["flatten", "constant", "pool"]))))
    return randomised(nn.Sequential(*layers), draw(integers(0, 2**16)))


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """Give every parameter and statistic a value that no symmetry can hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5 + 0.05)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.3)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()
