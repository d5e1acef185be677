"""Gradients summed up in training: over steps, and over participants that share no data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from prunus.criteria.base import Evidence
from prunus.space import UnitGroup
from prunus.types import Scores

Form = Literal["squares", "gradients"]
"""What is summed: squares of gradients, or gradients themselves."""


class Gathering:
    """Sums over steps and participants since the last decision; they merge by addition.

    Args:
        form: What is summed.

    Attributes:
        sums: Parameter name -> float32, shaped like the parameter.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, gradients: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Take in gradients, `weight` times, such as the number of samples behind them."""
        square = self.form == "squares"
        found = {name: g.float().square() if square else g.float() for name, g in gradients.items()}
        self.merge({name: value * weight for name, value in found.items()})

    @torch.no_grad()
    def merge(self, sums: Mapping[str, Tensor]) -> None:
        """Take in what another participant has summed up; the tensors are copied."""
        for name, value in sums.items():
            if name in self.sums:
                self.sums[name] += value.to(self.sums[name].device)
            else:
                self.sums[name] = value.clone()

    def clear(self) -> None:
        """Begin anew, after a decision."""
        self.sums = {}


@dataclass(frozen=True)
class RiskReduction:
    """g^2: what a small step on this weight lowers the empirical risk by, up to the learning rate.

    Gathered while the network trains, masked weights included. Source: Jiang et al., "PruneFL",
    IEEE TNNLS 2022, arXiv:1909.12326, section IV, equation 6.
    """

    gathers: ClassVar[Form] = "squares"

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the sums, >= 0.

        Raises:
            ValueError: Nothing has been gathered since the last decision.
        """
        sums = gathered(groups, evidence)
        return {group.name: group.gather(sums).sum(dim=1).float().cpu() for group in groups}


@dataclass(frozen=True)
class GatheredConnection:
    """|g w| with the gradient gathered in training: SNIP where no one sees all the data.

    As used for comparison by Jiang et al., IEEE TNNLS 2022, arXiv:1909.12326, section VI; the score
    is that of Lee, Ajanthan and Torr, "SNIP", ICLR 2019, arXiv:1810.02340, section 4.1.
    """

    gathers: ClassVar[Form] = "gradients"

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the magnitudes, >= 0; of a filter their sum.

        Raises:
            ValueError: Nothing has been gathered since the last decision.
        """
        sums = gathered(groups, evidence)
        values = {name: (g * evidence.weights[name]).abs() for name, g in sums.items()}
        return {group.name: group.gather(values).sum(dim=1).float().cpu() for group in groups}


def gathered(groups: Sequence[UnitGroup], evidence: Evidence) -> Mapping[str, Tensor]:
    """Return the evidence's sums, if they cover the groups.

    Raises:
        ValueError: They do not.
    """
    for group in groups:
        if missing := next((name for name in group.tensors if name not in evidence.gathered), None):
            raise ValueError(
                f"no gradients of {missing!r} were gathered; let the method begin after the first "
                "step (begin='1it' or later), call pruner.step between optimizer.step and "
                "zero_grad, and leave weights that are not trained out with skip."
            )
    return evidence.gathered
