"""Exact selection by rank.

The units to remove are found with one in-place partition of all scores (introselect, linear time):
a threshold is a selection, not a sort. Counts are exact; among tied units the earlier ones stay.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def lowest(scores: Sequence[Tensor], count: int) -> list[Tensor]:
    """Mark the `count` lowest of all scores.

    Args:
        scores: float32 tensors on the CPU, any shapes, ranked together.
        count: How many to mark, from 0 to the number of scores.

    Returns:
        For each tensor a bool tensor of its shape, True = among the lowest; exactly `count` are
        True. Of equal scores the later ones (in order of tensors, then of position) are marked.

    Raises:
        ValueError: A score is NaN, or `count` is out of range.
    """
    total = sum(score.numel() for score in scores)
    if not 0 <= count <= total:
        raise ValueError(f"count must be in [0, {total}], got {count}.")
    if count in (0, total):
        return [torch.full(score.shape, count > 0) for score in scores]
    pool = np.empty(total, dtype=np.float32)
    start = 0
    for score in scores:
        pool[start : start + score.numel()] = score.numpy().reshape(-1)
        start += score.numel()
    pool.partition([count - 1, total - 1])
    if np.isnan(pool[-1]):
        raise ValueError("scores contain NaN; the weights or gradients behind them are not finite.")
    threshold = float(pool[count - 1])
    marked = [score <= threshold for score in scores]
    surplus = sum(int(mark.count_nonzero()) for mark in marked) - count
    for score, mark in zip(scores, marked, strict=True):
        if surplus == 0:
            break
        tied = (score == threshold).reshape(-1).nonzero().ravel()[:surplus]
        mark.view(-1)[tied] = False
        surplus -= len(tied)
    return marked
