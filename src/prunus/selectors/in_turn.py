"""Prune layers in turn, one while the others wait."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch

from prunus.criteria import Evidence
from prunus.errors import TargetError
from prunus.schedules import CURVES
from prunus.selectors.base import Decision, Selector
from prunus.space import Space, UnitGroup
from prunus.space.unit_groups import WeightGroup
from prunus.types import Keep, Scores, Target


@dataclass(frozen=True, kw_only=True)
class InTurn:
    """Divides the schedule among the layers: each is pruned in its own part of the time.

    With a target each turn goes from `initial` to the whole of it along `curve`, by its own clock,
    so the schedule's curve is to be "constant". Without one the layers whose turn it is get what
    `of` decides, and at the end all do.

    Args:
        of: Chooses among the layers of one turn.
        by: A turn for each "layer", in order of use, or for each "kind": linear layers, then
            convolutions.
        cycles: How often everyone's turn comes.
        curve: From the time that a layer has had to what it has lost; see `prunus.schedules`.
        initial: Lost before its first turn, in [0, 1).

    Raises:
        ValueError: A field is out of range.
    """

    of: Selector
    by: Literal["layer", "kind"] = "layer"
    cycles: int = 1
    curve: str = "cubic"
    initial: float = 0.0

    def __post_init__(self) -> None:
        if self.by not in ("layer", "kind"):
            raise ValueError(f"by must be 'layer' or 'kind', got {self.by!r}.")
        if self.cycles < 1:
            raise ValueError(f"cycles must be at least 1, got {self.cycles}.")
        if self.curve not in CURVES:
            raise ValueError(f"curve must be one of {', '.join(CURVES)}, got {self.curve!r}.")
        if not 0 <= self.initial < 1:
            raise ValueError(f"initial must be in [0, 1), got {self.initial:g}.")

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose for the layers whose turn it is, and keep what was chosen for the others.

        Raises:
            TargetError: The target is a cost.
            ValueError: Turns are by kind, and the units are not single weights.
        """
        turns = self._turns(groups)
        place = evidence.progress * self.cycles * len(turns)
        number = max(0, ceil(place - 1e-9) - 1)  # a turn ends with an update that belongs to it
        cycle, now = divmod(number, len(turns))
        keep: Keep = {}
        for k, turn in enumerate(turns):
            if target is not None:
                over = cycle + (1 if k < now else min(1.0, place - number) if k == now else 0)
                goal = self._goal(target, over / self.cycles)
                keep |= self.of.select(space, turn, scores, goal, evidence).keep
            elif k == now or evidence.progress >= 1:
                keep |= self.of.select(space, turn, scores, None, evidence).keep
            else:
                whole = {g.name: torch.ones(g.size, dtype=torch.bool) for g in turn}
                keep |= {name: evidence.keep.get(name, every) for name, every in whole.items()}
        return Decision(keep)

    def _turns(self, groups: Sequence[UnitGroup]) -> list[list[UnitGroup]]:
        if self.by == "layer":
            return [[group] for group in groups]
        kinds = [[g for g in groups if _is_linear(g) == linear] for linear in (True, False)]
        return [kind for kind in kinds if kind]

    def _goal(self, target: Target, progress: float) -> Target:
        if target.metric not in ("sparsity", "density"):
            raise TargetError(f"{target.metric} cannot be met layer by layer; ask for sparsity.")
        final = target.removed
        share = CURVES[self.curve](progress, min(self.initial, final), final)
        return Target(sparsity=share)


def _is_linear(group: UnitGroup) -> bool:
    if not isinstance(group, WeightGroup):
        raise ValueError(f"kinds of layers have single weights, but {group.name!r} has channels.")
    return len(group.weight.shape) == 2
