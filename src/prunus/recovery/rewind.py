"""Rewinding: kept weights go back to what they were at an earlier step.

Source: Frankle and Carbin, ICLR 2019, arXiv:1803.03635, section 1 (step 0); Frankle, Dziugaite, Roy
and Carbin, ICML 2020, arXiv:1912.05671 (a later step); Renda, Frankle and Carbin, ICLR 2020,
arXiv:2003.02389 (the learning rate alone).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.schedules import Timeline, iterations
from prunus.space.masked import apply_mask, check_mask
from prunus.types import Mask


@dataclass(frozen=True, kw_only=True)
class Rewind:
    """What happens after each update of the mask: training begins again.

    The optimizer starts afresh and the learning rate goes back to where it was at `to`.

    Args:
        to: The step of the first training to go back to, "0it" for the initialisation.
        weights: "reset" puts every weight and buffer back to what it was then; "keep" leaves the
            trained ones and rewinds the learning rate alone.

    Raises:
        ValueError: `weights` is neither, or `to` has no unit.
    """

    to: str = "0it"
    weights: Literal["reset", "keep"] = "reset"

    def __post_init__(self) -> None:
        iterations(self.to, steps_per_epoch=1)
        if self.weights not in ("reset", "keep"):
            raise ValueError(f"weights must be 'reset' or 'keep', got {self.weights!r}.")


class Rewinding:
    """The trainings of a network that goes back to an earlier step after each update of its mask.

    Args:
        model: The network being trained.
        choice: Where it goes back to; None for a method that trains on.
        timeline: When the mask is updated, made by `Timeline.rewound`.

    Attributes:
        start: The state dict that is gone back to; empty before that step, or if none is kept.
        densities: Share of units kept in each training so far.
        rewound: The step that the last update sent training back to, or None.
    """

    def __init__(self, model: nn.Module, choice: Rewind | None, timeline: Timeline) -> None:
        self._model = model
        self._choice = choice
        self._to = timeline.origin or 0
        self._updates = timeline.updates()
        self.start: dict[str, Tensor] = {}
        self.densities = [1.0]
        self.rewound: int | None = None
        self.remember(0)

    def remember(self, steps: int) -> None:
        """Keep a copy of the network if `steps` are those to go back to."""
        if self._choice is not None and self._choice.weights == "reset" and steps == self._to:
            self.start = snapshot(self._model)

    def go_back(self, density: float, optimizer: Optimizer | None) -> None:
        """Reset weights and optimizer for a training with `density` of the units."""
        if self._choice is None:
            return
        self.rewound = self._to
        self.densities.append(density)
        if self.start:
            rewind(self._model, self.start)
        if optimizer is not None:
            optimizer.state.clear()

    def begins(self) -> list[tuple[int, int]]:
        """Return, for each training, the steps made before it and the step it begins at."""
        later = self._updates if self._choice is not None else []
        return [(0, 0), *((made, self._to) for made in later)]

    def total(self, length: int) -> int:
        """Return the steps of all trainings together when one has `length` steps."""
        made, begin = self.begins()[-1]
        return made + length - begin

    def state(self) -> dict[str, Tensor]:
        """Return all that the above depend on, beside the network."""
        if self._choice is None:
            return {}
        densities = torch.tensor(self.densities, dtype=torch.float64)
        return {"densities": densities, **{f"start.{n}": v for n, v in self.start.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        if self._choice is None:
            return
        self.densities = state["densities"].tolist()
        self.start = {
            name.removeprefix("start."): value.clone()
            for name, value in state.items()
            if name.startswith("start.")
        }


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the model's state dict, to rewind to."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def rewind(model: nn.Module, weights: Mapping[str, Tensor], mask: Mask | None = None) -> None:
    """Put a snapshot back, in place, and remove again what the mask removes.

    Everything is rewound, biases and batch-norm statistics included. An optimizer should start
    afresh afterwards.

    Args:
        model: Parameters keep their identity, so that optimizers keep working.
        weights: From `snapshot`, of this model or of one of the same shapes.
        mask: State-dict name -> bool, True = kept; names not in it are not masked.

    Raises:
        ValueError: The snapshot or the mask does not fit the model; nothing was changed.
    """
    state = model.state_dict()
    if state.keys() != weights.keys():
        odd = ", ".join(sorted(state.keys() ^ weights.keys()))
        raise ValueError(f"the snapshot must have the model's names; only one of them has {odd}.")
    check_mask(state, weights)
    check_mask(state, mask or {})
    for name, value in state.items():
        value.copy_(weights[name])
    apply_mask(model, mask or {})
