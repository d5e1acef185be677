"""What a network costs as a function of how many units each group keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prunus.space.branches import Branch
from prunus.space.labels import Atoms, Label
from prunus.space.units import ChannelGroup


@dataclass(frozen=True)
class Cost:
    """A sum of products of dimension sizes; each size is linear in the groups' widths.

    The MACs of a layer are bilinear in the widths of what it reads and what it makes, and so on.
    Evaluated on a tensor that carries gradients (soft gates), the cost is differentiable.

    Attributes:
        name: "macs", "params" or "bytes".
        factors: float64, shape (terms,).
        terms: int64, shape (terms, dims): rows of `linear` whose sizes are multiplied.
        linear: float64, shape (sizes, groups): positions added per kept unit of each group.
        constant: float64, shape (sizes,): positions that always stay.
        widths: float64, shape (groups,): the dense widths.
    """

    name: str
    factors: Tensor
    terms: Tensor
    linear: Tensor
    constant: Tensor
    widths: Tensor

    def at(self, widths: Tensor) -> Tensor:
        """Return the cost when the groups keep `widths` units, shape (groups,); a scalar."""
        return self.per_term(widths).sum()

    def per_term(self, widths: Tensor) -> Tensor:
        """Return the cost of each term, shape (terms,)."""
        sizes = self.constant + self.linear @ widths.to(self.linear)
        return self.factors * sizes[self.terms].prod(dim=1)

    @property
    def dense(self) -> int:
        """The cost of the unpruned network."""
        return round(float(self.at(self.widths)))


def cost(
    name: str,
    terms: Sequence[tuple[int, Sequence[Label]]],
    groups: Sequence[ChannelGroup | Branch],
    group_of: Atoms,
) -> Cost:
    """Build a cost from terms (factor, labels of the dimensions whose sizes are multiplied)."""
    deepest = max((len(dims) for _, dims in terms), default=0)
    rows: dict[bytes, int] = {}
    linear: list[np.ndarray] = [np.zeros(len(groups))]
    constant: list[float] = [1.0]
    widths = np.array([group.size for group in groups], dtype=float)
    table = np.zeros((len(terms), max(deepest, 1)), dtype=np.int64)
    for t, (_, dims) in enumerate(terms):
        for d, label in enumerate(dims):
            assert not isinstance(label, str)
            owner = group_of[label]
            key = owner.tobytes()
            if key not in rows:
                rows[key] = len(linear)
                counts = np.bincount(owner[owner >= 0], minlength=len(groups)).astype(float)
                linear.append(
                    np.divide(counts, widths, out=np.zeros_like(counts), where=counts > 0)
                )
                constant.append(float((owner < 0).sum()))
            table[t, d] = rows[key]
    return Cost(
        name,
        torch.tensor([float(factor) for factor, _ in terms], dtype=torch.float64),
        torch.from_numpy(table),
        torch.from_numpy(np.stack(linear)),
        torch.tensor(constant, dtype=torch.float64),
        torch.from_numpy(widths),
    )
