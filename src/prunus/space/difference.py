"""How far two outputs are apart."""

import torch
from torch import Tensor

from prunus.errors import EquivalenceError

_SHARES = (1, 2, 10)  # values filled in are looked for among the largest, in the middle, below

_FAR = 1e-3  # entries so much smaller than most are another kind

_ROUNDING = 1e-4  # times the tolerance, what rounding leaves beside a number of size one


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def difference(expected: list[Tensor], got: list[Tensor]) -> float:
    """Return the largest difference relative to each entry and to the small ones beside it.

    Entries of -1e9, as attention masks have, then hide nothing in the entries around them.
    """
    if [x.shape for x in expected] != [x.shape for x in got]:
        raise EquivalenceError(
            f"the small network's outputs have shapes {[tuple(x.shape) for x in got]}, the masked "
            f"one's {[tuple(x.shape) for x in expected]}."
        )
    worst = 0.0
    for a, b in zip(map(_real, expected), map(_real, got), strict=True):
        if not a.is_floating_point():
            worst = max(worst, 0.0 if torch.equal(a, b) else float("inf"))
        elif a.numel() and not torch.equal(a, b):
            finite = a.isfinite()
            same = torch.equal(finite, b.isfinite()) and torch.equal(
                a[~finite].nan_to_num(), b[~finite].nan_to_num()
            )
            if a.isnan().any() or not finite.any():
                raise EquivalenceError(
                    "the networks' outputs are not finite, so nothing can be compared; check the "
                    "weights and the example input."
                )
            if not same:
                return float("inf")
            size = a[finite].abs()
            worst = max(worst, float(((a - b)[finite].abs() / (size + _scale(size))).max()))
    return worst


def _scale(size: Tensor) -> float:
    """Return the size of small entries: a tenth are smaller, values filled in not counted.

    Where some are far smaller than that, it is theirs; but in float64 only, and not below the
    rounding errors that sums of the larger ones leave.
    """
    size = size[size > 0]
    if not len(size):
        return 1.0
    for share in _SHARES * 2:
        others = size[size != _smallest(size, share)]
        if len(others) and len(size) - len(others) > max(1, len(size) // 20):
            size = others  # a value that stands so often was filled in
    scale = _smallest(size, 10)
    if size.dtype == torch.float64:
        far = [x for x in (_smallest(size, 100), _smallest(size, 1000)) if x < _FAR * scale]
        scale = max(min(far, default=scale), _ROUNDING * _smallest(size, 2))
    limits = torch.finfo(size.dtype)
    return scale + limits.tiny / limits.eps  # smaller numbers have fewer digits


def _smallest(size: Tensor, share: int) -> float:
    return float(size.kthvalue(max(1, len(size) // share)).values)
