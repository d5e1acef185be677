"""LASSO by its second moments, with the penalty at which so many coefficients are left."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prunus.selectors.reach import top

Vector = npt.NDArray[np.float64]

_SWEEPS = 1000
_HALVINGS = 20


def lasso(gram: Vector, moment: Vector, penalty: float, start: Vector) -> Vector:
    """Return the beta that minimises 1/2 beta'G beta - r'beta + penalty |beta|_1.

    With G = Z'Z / n and r = Z't / n that is 1/(2n) |t - Z beta|^2 + penalty |beta|_1. Coordinates
    descend in turn, those that are not zero until they settle and then all, until none moves.

    Args:
        gram: G, shape (coefficients, coefficients).
        moment: r, shape (coefficients,).
        penalty: At least 0.
        start: Where to begin.
    """
    beta = start.copy()
    slope = moment - gram @ beta
    enough = 1e-7 * float(np.abs(moment).max(initial=0.0))
    curvature = gram.diagonal().tolist()
    usable = [k for k, g in enumerate(curvature) if g > 0]

    def sweep(coordinates: list[int]) -> float:
        moved = 0.0
        for k in coordinates:
            before, g = float(beta[k]), curvature[k]
            pull = float(slope[k]) + g * before
            room = abs(pull) - penalty
            after = 0.0 if room <= enough else room / g if pull > 0 else -room / g
            if after != before:
                np.subtract(slope, gram[k] * (after - before), out=slope)
                beta[k] = after
                moved = max(moved, abs(after - before) * g)
        return moved

    coordinates = usable
    for _ in range(_SWEEPS):
        settled = sweep(coordinates) <= enough
        if settled and coordinates is usable:
            break
        coordinates = usable if settled else np.flatnonzero(beta).tolist()
    return beta


def chosen(gram: Tensor, moment: Tensor, count: int) -> Tensor:
    """Mark the `count` coefficients that a LASSO keeps.

    The penalty is halved, from where all are zero, until `count` of them are not, and then bisected
    until at most 1.1 times as many are left. Of these the largest stay.

    Args:
        gram: Z'Z / n, float64, shape (coefficients, coefficients), on the CPU.
        moment: Z't / n, shape (coefficients,).
        count: How many to mark.

    Returns:
        bool, shape (coefficients,), True = marked.
    """
    g, r = gram.numpy(), moment.numpy()
    beta = np.zeros_like(r)
    high = low = float(np.abs(r).max(initial=0.0))
    most = int(1.1 * count + 1e-9)
    for _ in range(_HALVINGS):
        if np.count_nonzero(beta) >= count:
            break
        high, low = low, low / 2
        beta = lasso(g, r, low, beta)
    for _ in range(_HALVINGS):
        if np.count_nonzero(beta) <= most:
            break
        middle = (low + high) / 2
        tried = lasso(g, r, middle, beta)
        if np.count_nonzero(tried) >= count:
            low, beta = middle, tried
        else:
            high = middle
    return top(torch.from_numpy(np.abs(beta)), count)
