"""Exact selection by rank.

The units to remove are found with one in-place partition of all scores (introselect, linear time):
a threshold is a selection, not a sort. Counts are exact; among tied units the earlier ones stay.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_BLOCK = 1 << 17


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
    values = [score.numpy().reshape(-1) for score in scores]
    pool = np.concatenate(values)
    pool.partition(count - 1)
    threshold, rest = pool[count - 1], pool[count:]
    if np.isnan(rest.max()):  # the partition puts NaN last
        raise ValueError("scores contain NaN; the weights or gradients behind them are not finite.")
    surplus = int(np.count_nonzero(rest == threshold))
    del pool, rest
    marked = [torch.empty(score.shape, dtype=torch.bool) for score in scores]
    for value, mark in zip(values, marked, strict=True):
        flags = mark.view(-1).numpy()
        # block by block, so that looking for ties finds the scores still in the cache
        for start in range(0, len(value), _BLOCK):
            block, here = value[start : start + _BLOCK], flags[start : start + _BLOCK]
            np.less_equal(block, threshold, out=here)
            if surplus:
                tied = np.flatnonzero(block == threshold)[:surplus]
                here[tied] = False
                surplus -= len(tied)
    return marked
