"""Distillation: the unpruned network teaches the pruned one.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 deep
learning workshop, arXiv:1503.02531, section 2.
Deviation: the paper trains a small network of its own from scratch; here the small network is the
large one without its filters of smallest L1 norm, and goes on from the weights that are left.
"""

from collections.abc import Mapping
from dataclasses import replace

from prunus.methods.base import Method
from prunus.methods.l1_filter import l1_filter
from prunus.names import naming
from prunus.recovery import SoftTargets


@naming
def distil(
    *,
    temperature: float = 4.0,
    hard_weight: float = 0.5,
    ratios: Mapping[str, float] | None = None,
    skip: tuple[str, ...] = (),
    coupled: bool = False,
    round_to: int = 8,
    min_keep: int = 1,
) -> Method:
    """Remove filters by their L1 norm, once; then learn the unpruned network's soft targets.

    Args:
        temperature: Of the soft targets.
        hard_weight: Of the labels beside them; 0 learns without labels.
        ratios: Shell pattern of layer names -> share of filters removed there; see `l1_filter`.
        skip: Shell patterns of layer names to leave whole.
        coupled: Also prune filters that write into a residual sum.
        round_to: Widths are multiples of this.
        min_keep: Filters that every layer keeps at least.

    Raises:
        ValueError: A setting is out of range.
    """
    filters = l1_filter(
        ratios=ratios, skip=skip, coupled=coupled, round_to=round_to, min_keep=min_keep
    )
    soft = SoftTargets(temperature=temperature, hard_weight=hard_weight)
    return replace(filters, name="distil", distillation=soft)
