"""What each channel adds to sampled outputs of a layer that reads it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunus.selectors.reconstruction.windows import Windows


@dataclass(frozen=True)
class Pairs:
    """Outputs of a layer, drawn at random.

    Attributes:
        samples: Of each the sample, int64, shape (pairs,).
        positions: The position.
        outputs: The output channel.
    """

    samples: Tensor
    positions: Tensor
    outputs: Tensor


def draw(seen: Windows, weight: Tensor, count: int, generator: torch.Generator) -> Pairs:
    """Draw `count` outputs of each sample; those whose weights are all zero, if any, are not drawn.

    Args:
        seen: What the layer reads.
        weight: Its weight, shape (out, in / groups, *kernel).
        count: Outputs of each sample.
        generator: Of the choice.
    """
    samples, positions = seen.draw(count, generator)
    live = weight.flatten(1).any(dim=1).nonzero().ravel()
    live = live if len(live) else torch.arange(len(weight), device=weight.device)
    drawn = torch.randint(len(live), samples.shape, generator=generator)
    return Pairs(samples, positions, live[drawn.to(live.device)])


def contributions(seen: Windows, weight: Tensor, columns: Tensor, pairs: Pairs) -> Tensor:
    """Return what each unit adds to each drawn output, float64, shape (pairs, units).

    Args:
        seen: What the layer reads.
        weight: Its weight, float64, shape (out, in / groups, *kernel).
        columns: Where the units are among its inputs, (units, k).
        pairs: The outputs.
    """
    filters = weight.flatten(2) if weight.ndim > 2 else weight[..., None]
    group = pairs.outputs // (len(filters) // seen.groups)
    columns = columns.to(weight.device)
    rows = []
    for part, read in seen.parts(pairs.samples, pairs.positions):
        own = read[torch.arange(len(read), device=read.device), group[part]]
        added = (own * filters[pairs.outputs[part]]).sum(dim=2)  # pairs, channels of the group
        rows.append(added[:, columns].sum(dim=2))
    return torch.cat(rows)
