"""Sparse matrices of weights: blocks of a few rows by one column."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from prunus_engine._engine import SparseMatrix

HEIGHTS = (1, 2, 4, 8, 16)
"""How many output channels, one after the other, a block may hold."""

_RATES = {1: 1.0, 2: 1.55, 4: 1.9, 8: 1.95, 16: 1.95}
"""Multiply-adds per second with blocks of a height, beside single weights (measured)."""


def pack(weight: NDArray[np.float32], height: int = 1) -> SparseMatrix:
    """Return the blocks of a matrix that hold a number other than zero.

    Args:
        weight: Shape (rows, columns).
        height: Rows of a block; the last may reach beyond the matrix, filled with zeros.

    Raises:
        ValueError: The weight is no matrix, or the height is none of `HEIGHTS`.
    """
    if weight.ndim != 2:
        raise ValueError(f"weight must be a matrix, got shape {weight.shape}.")
    if height not in HEIGHTS:
        raise ValueError(f"height must be one of {', '.join(map(str, HEIGHTS))}, got {height}.")
    blocks = _blocks(np.asarray(weight, np.float32), height)
    where = (blocks != 0).any(axis=1)
    starts = np.concatenate([[0], np.cumsum(where.sum(axis=1))]).astype(np.int64)
    row, column = np.nonzero(where)
    values = np.ascontiguousarray(blocks.transpose(0, 2, 1)[row, column]).reshape(-1)
    rows, columns = weight.shape
    return SparseMatrix(rows, columns, height, starts, column.astype(np.int64), values)


def heights(weight: NDArray[np.float32], rows: int) -> Iterator[int]:
    """Yield the block heights that are worth a try, the most promising first.

    Args:
        weight: Shape (rows, columns).
        rows: Blocks must not reach over a multiple of so many (the rows of a group).
    """
    fits = [h for h in HEIGHTS if rows == len(weight) or rows % h == 0]
    cost = {h: (_blocks(weight, h) != 0).any(axis=1).sum() * h / _RATES[h] for h in fits}
    best = min(cost.values())
    yield from (h for h in sorted(cost, key=lambda h: cost[h]) if cost[h] <= 1.3 * best)


def _blocks(weight: NDArray[np.float32], height: int) -> NDArray[np.float32]:
    """Return the rows in groups of a height, (groups, height, columns)."""
    lacking = -len(weight) % height
    padded = np.pad(weight, ((0, lacking), (0, 0))) if lacking else weight
    return padded.reshape(-1, height, weight.shape[1])
