"""Random small networks: maps through convolutions, tokens through attention and recurrence.

A network is drawn as a list of steps on a feature map or on tokens, then brought to a few numbers.
Every step is an ordinary module, so what is tested is what users write.
"""

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from blocks import (
    Apply,
    Attention,
    Bilinear,
    Branches,
    Concatenate,
    Functional,
    FunctionalConv,
    Gated,
    Head,
    Learned,
    MixTokens,
    PaddedShortcut,
    PixelAttention,
    PreNorm,
    Recurrent,
    Repeated,
    Residual,
    SelfAttention,
    Shuffle,
    SizedEncoderLayer,
    SplitApart,
    SqueezeExcite,
    Stem,
    TokenHead,
    Written,
)

__all__ = ["Concatenate", "Residual", "Shuffle", "networks", "randomised", "sized"]

MAP_STEPS = (
    *("chain", "residual", "projected", "concat", "split", "grouped", "depthwise"),
    *("excite", "transposed", "shuffle", "pool", "group_norm", "twice"),
    *("padded", "functional", "weight_norm", "pixels", "maxout", "pixel_shuffle", "instance_norm"),
)
TOKEN_STEPS = (
    *("attention", "attention", "attention", "multihead", "encoder", "recurrent", "mlp", "gated"),
    *("mix", "functional", "written", "repeated", "branches", "learned", "bilinear", "shuffle"),
    *("roll", "stride", "norm", "sizes", "weight_norm", "linear"),
)
ACTIVATIONS = (nn.ReLU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Hardswish, nn.LeakyReLU)

Draw = Callable[[st.SearchStrategy], Any]


def sized(model: nn.Module) -> bool:
    """Say whether a forward in the network has sizes that are numbers."""
    return any(getattr(module, "sized", False) for module in model.modules())


@st.composite
def networks(draw: Draw) -> nn.Module:
    """A network for inputs of shape (batch, 3, 8, 8)."""
    layers = draw(st.sampled_from([maps, tokens]))(draw)
    return randomised(nn.Sequential(*layers), draw(st.integers(0, 2**16)))


def maps(draw: Draw) -> list[nn.Module]:
    """Draw layers over feature maps, and a head."""
    width, side, layers = 3, 8, []
    for _ in range(draw(st.integers(1, 4))):
        made, width, side = map_step(draw, draw(st.sampled_from(MAP_STEPS)), width, side)
        layers += made
    head = Head(width, side, draw(st.sampled_from(["flatten", "constant", "pool"])))
    return [*layers, head]


def map_step(draw: Draw, kind: str, width: int, side: int) -> tuple[list[nn.Module], int, int]:
    """Return modules, and the width and the side of what they make."""
    integers, choose = st.integers, st.sampled_from
    out = 2 * draw(integers(2, 6))
    activation = draw(choose(ACTIVATIONS))()
    if kind == "chain":
        return [nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), activation], out, side
    if kind == "residual":
        inner = [nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), activation]
        return [Residual(nn.Sequential(*inner, nn.Conv2d(out, width, 1)))], width, side
    if kind == "projected":
        inner = [nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)]
        whole = Residual(nn.Sequential(*inner), nn.Conv2d(width, out, 1))
        return [whole, activation], out, side
    if kind == "concat":
        second = draw(integers(1, 5))
        made = [Concatenate(nn.Conv2d(width, out, 1), nn.Conv2d(width, second, 1))]
        if draw(st.booleans()):
            made.append(Concatenate(nn.Identity(), nn.Conv2d(out + second, 4, 1)))
            second += 4
        return made, out + second, side
    if kind == "split":
        chunk = draw(st.booleans())
        total = width + width % 2 if chunk else width + 1
        first = total // 2 if chunk else draw(integers(1, total - 1))
        parts = SplitApart(first, total - first, out, chunk)
        return [nn.Conv2d(width, total, 1), parts], out, side
    if kind == "grouped":
        groups = draw(choose([2, 4]))
        grouped = nn.Conv2d(2 * groups, 3 * groups, 3, padding=1, groups=groups)
        return [nn.Conv2d(width, 2 * groups, 1), grouped, activation], 3 * groups, side
    if kind == "depthwise":
        wide = out * draw(integers(1, 2))
        deep = nn.Conv2d(out, wide, 3, padding=1, groups=out)
        made = [nn.Conv2d(width, out, 1), deep, nn.BatchNorm2d(wide), activation]
        return made, wide, side
    if kind == "pool":
        if side <= 2:
            return [activation], width, side
        return [draw(choose([nn.MaxPool2d, nn.AvgPool2d]))(2)], width, side // 2
    if kind == "padded":
        front, rear = draw(integers(0, 2)), draw(integers(0, 3))
        stride = draw(choose([1, 2])) if side > 2 else 1
        whole = PaddedShortcut(width, front, rear, stride)
        return [whole, activation], width + front + rear, side // stride
    if kind == "pixel_shuffle":
        if side > 4:
            return [nn.Conv2d(width, out, 1), nn.PixelUnshuffle(2)], 4 * out, side // 2
        return [nn.Conv2d(width, 2 * out, 1), nn.PixelShuffle(2)], out // 2, 2 * side
    first = nn.Conv2d(width, out, 1)
    if kind == "excite":
        return [first, SqueezeExcite(out, 4)], out, side
    if kind == "transposed":
        groups = draw(choose([1, 2, out]))
        return [first, nn.ConvTranspose2d(out, out, 1, groups=groups)], out, side
    if kind == "shuffle":
        return [first, Shuffle(2), activation], out, side
    if kind == "group_norm":
        return [first, nn.GroupNorm(draw(choose([1, 2, out])), out)], out, side
    if kind == "instance_norm":
        norm = nn.InstanceNorm2d(out, affine=draw(st.booleans()))
        return [first, norm] if side > 1 else [first], out, side
    if kind == "twice":
        shared = nn.Conv2d(out, out, 3, padding=1)
        return [first, shared, activation, shared], out, side
    if kind == "functional":
        return [FunctionalConv(width, out, draw(st.booleans())), activation], out, side
    if kind == "weight_norm":
        return [parametrizations.weight_norm(nn.Conv2d(width, out, 3, padding=1))], out, side
    if kind == "pixels":
        squash = draw(st.booleans())
        return [first, PixelAttention(out, draw(integers(2, 6)), squash)], out, side
    if kind == "maxout":
        return [first, Apply(lambda x: x.unflatten(1, (-1, 2)).amax(2))], out // 2, side
    raise ValueError(kind)


def tokens(draw: Draw) -> list[nn.Module]:
    """Draw layers over tokens, and a head."""
    width = 4 * draw(st.integers(1, 3))
    kind, extra = draw(st.sampled_from(sorted(Stem.TOKENS))), draw(st.booleans())
    layers: list[nn.Module] = [Stem(kind, width, position=draw(st.booleans()), extra=extra)]
    count = Stem.TOKENS[kind] + extra
    for _ in range(draw(st.integers(1, 3))):
        made, width, count = token_step(draw, draw(st.sampled_from(TOKEN_STEPS)), width, count)
        layers += made
    kind = draw(st.sampled_from(["mean", "first", "largest", "flatten"]))
    form = draw(st.sampled_from(["tensor", "tensor", "dict", "tuple"]))
    return [*layers, TokenHead(width, count, kind, form)]


def token_step(draw: Draw, kind: str, width: int, count: int) -> tuple[list[nn.Module], int, int]:
    """Return modules, and the width and the number of the tokens they make; widths are even."""
    integers, choose, truth = st.integers, st.sampled_from, st.booleans()
    out, hidden = 4 * draw(integers(1, 3)), draw(integers(3, 10))
    activation = draw(choose(ACTIVATIONS))()
    norm = draw(choose([nn.Identity, nn.Identity, nn.LayerNorm, nn.RMSNorm]))(width)
    if kind == "attention":
        fused = draw(truth)
        shared = 1 if fused else draw(choose([1, 1, 2]))
        inner = Attention(
            width,
            shared * draw(integers(1, 3)),
            2 * draw(integers(1, 3)),
            fused=fused,
            shared=shared,
            kernel=draw(choose(["softmax", "softmax", "function", "sigmoid", "linear"])),
            scale=draw(choose(["number", "shape", "none"])),
            causal=draw(truth),
            rotary=draw(integers(0, 3)) == 0,
        )
        return [PreNorm(norm, inner)], width, count
    if kind == "multihead":
        inner = SelfAttention(width, draw(choose([1, 2, 4])), draw(truth))
        return [PreNorm(norm, inner)], width, count
    if kind == "encoder":
        layer = SizedEncoderLayer(
            *(width, draw(choose([1, 2])), hidden, 0.1),
            activation=draw(choose(["relu", "gelu"])),
            norm_first=draw(truth),
            batch_first=True,
        )
        return [layer], width, count
    if kind == "recurrent":
        layer = draw(choose([nn.LSTM, nn.GRU, nn.RNN]))
        options = {"num_layers": draw(choose([1, 1, 2])), "bidirectional": draw(truth)}
        made = layer(width, out, batch_first=True, bias=draw(truth), **options)
        return [Recurrent(made)], out * (1 + options["bidirectional"]), count
    if kind == "mlp":
        inner = [nn.Linear(width, hidden), activation, nn.Dropout(0.1), nn.Linear(hidden, width)]
        return [PreNorm(norm, nn.Sequential(*inner))], width, count
    if kind == "gated":
        inner = Gated(width, hidden, width, draw(choose(["glu", "geglu", "swiglu"])))
        return [PreNorm(norm, inner)], width, count
    if kind == "mix":
        return [norm, MixTokens(count, hidden)], width, count
    if kind == "written":
        first, second = 4 * draw(integers(1, 2)), 4 * draw(integers(1, 2))
        return [Written(width, first, second)], first + second, count
    if kind == "repeated":
        how = draw(choose(["interleave", "expand", "tile"]))
        return [nn.Linear(width, out), Repeated(out, how)], out, count
    if kind == "branches":
        how = draw(choose(["largest", "weighed", "unbound", "scored"]))
        return [Branches(width, out, how)], out, count
    if kind == "learned":
        queries = draw(integers(2, 5))
        return [Learned(width, queries, out)], out, queries
    if kind == "bilinear":
        return [Bilinear(width, out)], out, count
    if kind == "shuffle":
        swap = Apply(lambda x: x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2))
        return [nn.Linear(width, out), swap], out, count
    if kind == "roll":
        dim = draw(choose([1, 1, 2]))
        roll = Apply(lambda x: x + torch.tanh(x.roll(1, dim)))
        return [nn.Linear(width, out), roll], out, count
    if kind == "stride":
        if count > 4 and draw(truth):
            return [Apply(lambda x: x[:, ::2])], width, (count + 1) // 2
        halves = Apply(lambda x: x[..., ::2] * torch.sigmoid(x[..., 1::2]))
        return [nn.Linear(width, 2 * out), halves], out, count
    if kind == "norm":
        return [nn.Linear(width, out), draw(choose([nn.LayerNorm, nn.RMSNorm]))(out)], out, count
    if kind == "sizes":
        scaled = Apply(lambda x: x / x.shape[-1] ** 0.5, sized=True)
        return [nn.Linear(width, out), scaled, activation], out, count
    if kind == "weight_norm":
        return [parametrizations.weight_norm(nn.Linear(width, out)), activation], out, count
    if kind == "functional":
        how = draw(choose(["einsum", "matmul", "linear"]))
        return [Functional(width, out, how), activation], out, count
    if kind == "linear":
        return [nn.Linear(width, out), activation], out, count
    raise ValueError(kind)


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
