"""What a method adds to the loss, so that units become small before they are removed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prunus.space import UnitGroup


class Penalty(Protocol):
    """A term of the loss, and what is done to the weights after each step because of it."""

    def value(self, groups: Sequence[UnitGroup], parameters: Mapping[str, Tensor]) -> Tensor:
        """Return a scalar to differentiate."""

    def shrink(
        self,
        groups: Sequence[UnitGroup],
        parameters: Mapping[str, Tensor],
        rates: Mapping[str, float],
    ) -> None:
        """Change the parameters in place after an optimizer step.

        Args:
            groups: The competing units.
            parameters: By name.
            rates: Group name -> learning rate of its weights; empty where it is not known.
        """


@dataclass(frozen=True)
class ScaleL1:
    """strength times the sum of |gamma| over the batch norms of the channels.

    Its gradient is the subgradient strength * sign(gamma) of Liu et al., "Learning Efficient
    Convolutional Networks through Network Slimming", ICCV 2017, arXiv:1708.06519, section 3.

    Args:
        strength: The factor, 1e-4 for VGG and 1e-5 for residual networks in the paper.
    """

    strength: float = 1e-4

    def __post_init__(self) -> None:
        _check(self.strength)

    def value(self, groups: Sequence[UnitGroup], parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the penalty; zero where no channel has a batch norm."""
        names = dict.fromkeys(name for group in groups for name in group.scales)
        found = [parameters[name].abs().sum() for name in names]
        return self.strength * torch.stack(found).sum() if found else torch.zeros(())

    def shrink(
        self,
        groups: Sequence[UnitGroup],
        parameters: Mapping[str, Tensor],
        rates: Mapping[str, float],
    ) -> None:
        """Do nothing: the subgradient is enough."""


@dataclass(frozen=True)
class GroupLasso:
    """strength times the sum over units of sqrt(their size) times their Euclidean norm.

    Applied as a proximal step, which makes whole units exactly zero: after each optimizer step
    every unit is multiplied by max(0, 1 - rate * strength * sqrt(size) / norm). Source: Wen et al.,
    "Learning Structured Sparsity in Deep Neural Networks", NIPS 2016, arXiv:1608.03665, section 3.
    Deviation: the paper takes the gradient of the norm, which only comes near to zero.

    Args:
        strength: The factor.
    """

    strength: float = 1e-3

    def __post_init__(self) -> None:
        _check(self.strength)

    def value(self, groups: Sequence[UnitGroup], parameters: Mapping[str, Tensor]) -> Tensor:
        """Return zero: the proximal step does all."""
        return torch.zeros(())

    @torch.no_grad()
    def shrink(
        self,
        groups: Sequence[UnitGroup],
        parameters: Mapping[str, Tensor],
        rates: Mapping[str, float],
    ) -> None:
        """Bring every unit nearer to zero, and small ones to zero.

        Raises:
            ValueError: There are no learning rates.
        """
        if not rates:
            raise ValueError(
                "the penalty acts with the optimizer's learning rate; pass the optimizer that "
                "trains the pruned weights: pruner.step(optimizer)."
            )
        for group in groups:
            entries = group.gather(parameters)
            norm = torch.linalg.vector_norm(entries.float(), dim=1)
            step = rates[group.name] * self.strength * entries.shape[1] ** 0.5
            factor = (1 - step / norm.clamp_min(1e-12)).clamp_min(0)
            group.scale(parameters, factor)


def _check(strength: float) -> None:
    if not strength > 0:
        raise ValueError(f"strength must be above 0, got {strength!r}.")
