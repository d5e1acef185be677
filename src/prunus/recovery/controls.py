"""Controls: what a mask is worth beyond how many weights it keeps.

Source: Frankle and Carbin, ICLR 2019, arXiv:1803.03635, section 2 (random re-initialisation) and
appendix (random masks); the three ways of drawing masks are those of the open_lth code.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from prunus.types import Keep

Spread = Literal["layer", "all", "even"]


def shuffled(keep: Keep, spread: Spread, seed: int) -> Keep:
    """Return a random decision that keeps as many weights.

    Args:
        keep: Group name -> one bool per weight, True = kept.
        spread: "layer" keeps as many in each layer, "all" as many over all layers, wherever they
            fall, "even" the same share of every layer.
        seed: Of the draw.

    Raises:
        ValueError: `spread` is something else.
    """
    random = torch.Generator().manual_seed(seed)
    if spread == "layer":
        return {name: _mixed(kept, random) for name, kept in keep.items()}
    if spread == "all":
        rest = _mixed(torch.cat([kept.reshape(-1) for kept in keep.values()]), random)
        found: Keep = {}
        for name, kept in keep.items():
            found[name], rest = rest[: kept.numel()].view_as(kept), rest[kept.numel() :]
        return found
    if spread != "even":
        raise ValueError(f"spread must be 'layer', 'all' or 'even', got {spread!r}.")
    return {
        name: _mixed(_first(kept, count), random)
        for (name, kept), count in zip(keep.items(), _shares(keep), strict=True)
    }


def _shares(keep: Keep) -> list[int]:
    """Share the kept weights out in proportion to the layers' sizes, none left over."""
    sizes = [kept.numel() for kept in keep.values()]
    total, whole = sum(int(kept.sum()) for kept in keep.values()), sum(sizes)
    bounds = [round(sum(sizes[:k]) * total / whole) for k in range(len(sizes) + 1)]
    return [high - low for low, high in pairwise(bounds)]


def _first(kept: Tensor, count: int) -> Tensor:
    return (torch.arange(kept.numel()) < count).view_as(kept)


def _mixed(kept: Tensor, random: torch.Generator) -> Tensor:
    order = torch.randperm(kept.numel(), generator=random)
    return kept.reshape(-1)[order].view_as(kept)
