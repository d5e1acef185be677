"""What every way of applying a mask is given and must do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.space import Space, UnitGroup
from prunus.types import Example, Mask, Scores, Target


@dataclass(frozen=True)
class Site:
    """Where a mask is applied.

    Attributes:
        model: The network being trained.
        space: What may be removed from it; None where only a mask is held.
        groups: The competing units.
        target: How small the network is to become.
        generator: Source of every random choice.
        end: Optimizer steps until the method's schedule ends.
        example: An input of the model.
        dense: Says whether masked weights are to have gradients in the step under way.
    """

    model: nn.Module
    space: Space | None = None
    groups: Sequence[UnitGroup] = ()
    target: Target | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)
    end: int = 0
    example: Example = ()
    dense: Callable[[], bool] = lambda: False


class Masking(Protocol):
    """What a mask does to the network while it trains.

    Attributes:
        mends: Whether an update may give weights new values, beside zeros.
    """

    mends: bool

    def set(self, mask: Mask, optimizer: Optimizer | None = None) -> None:
        """Replace the mask: parameter name -> bool; the optimizer's state follows."""

    def load(self, mask: Mask) -> None:
        """Take up a mask that was in place before."""

    def penalty(self) -> Tensor | float:
        """Return what is added to the loss; the number 0 costs nothing."""

    def apply(self, rate: float | None = None, scale: float = 1.0) -> None:
        """Act after an optimizer step.

        Args:
            rate: Its learning rate; None where it is not known.
            scale: What the loss was multiplied by.
        """

    def settle(self) -> None:
        """Hold the mask from now on."""

    def detach(self) -> None:
        """Leave the network as a plain module that computes what it computed with the mask."""

    def scores(self) -> Scores:
        """Return what the masking has learned of each unit, for the criterion `Learned`."""

    def state(self) -> Mapping[str, Tensor]:
        """Return all that the above depend on, beside the mask."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""


class Application(Protocol):
    """A choice of masking, made before there is a network."""

    def on(self, site: Site) -> Masking:
        """Begin on a network."""
