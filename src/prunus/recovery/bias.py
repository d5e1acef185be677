"""The bias of classes that a student never saw.

Source: Hinton, Vinyals and Dean, arXiv:1503.02531, section 3: a student that never saw a 3 knows
most of them once the bias of that class is raised.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BiasFix:
    """What to add to the logits of some classes.

    Args:
        shift: The number to add to each of them.
        before: Share of samples classified wrongly without it, in [0, 1].
        after: The same with it.
    """

    shift: float
    before: float
    after: float


def fix_bias(logits: Tensor, labels: Tensor, classes: Collection[int]) -> BiasFix:
    """Find the number that, added to the logits of some classes, leaves the fewest errors.

    The error changes only where a sample goes over from the best of the other classes to the best
    of these, so all of its steps are known from one sort. Of equally good steps the one nearest to
    zero is taken: zero itself, or the middle of the step, or one logit beyond the last edge.

    Args:
        logits: Of validation samples, (samples, all classes).
        labels: (samples,).
        classes: Those whose bias is shifted.

    Raises:
        ValueError: `classes` holds no class, all classes or an unknown one, or there is no sample.
    """
    if not len(logits):
        raise ValueError("fix_bias needs at least one sample, got none.")
    shifted = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    if not all(0 <= number < len(shifted) for number in classes) or not (
        0 < len(set(classes)) < len(shifted)
    ):
        raise ValueError(
            f"classes must be some, not all, of the {len(shifted)} classes from 0 on, got "
            f"{sorted(classes)}."
        )
    shifted[list(classes)] = True
    of_these = logits.double().masked_fill(~shifted, -math.inf).max(1)
    of_others = logits.double().masked_fill(shifted, -math.inf).max(1)
    # Shifted further than to its edge, a sample is of one of these classes.
    edges, order = (of_others.values - of_these.values).sort()
    gained = (of_these.indices == labels).long() - (of_others.indices == labels).long()
    steps = torch.cat([gained.new_zeros(1), gained[order].cumsum(0)])
    wrong = int((of_others.indices != labels).sum()) - steps
    low = torch.cat([edges.new_tensor([-math.inf]), edges])
    high = torch.cat([edges, edges.new_tensor([math.inf])])
    middle = (low.clamp(min=low[1] - 2) + high.clamp(max=high[-2] + 2)) / 2
    shifts = middle.masked_fill((low < 0) & (high > 0), 0)
    fewest = wrong[low < high].min()
    best = shifts[(low < high) & (wrong == fewest)]
    return BiasFix(
        shift=float(best[best.abs().argmin()]),
        before=float((logits.argmax(1) != labels).double().mean()),
        after=float(fewest) / len(labels),
    )
