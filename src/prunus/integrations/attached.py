"""What the callbacks of all trainers have in common."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.criteria import Calibration
from prunus.errors import TrainingError
from prunus.methods import Method
from prunus.pruning import Pruner, Result
from prunus.pruning.plan import resolve
from prunus.space import Unstructured
from prunus.types import Example, Target


class Attached:
    """A pruner that a trainer's callback drives.

    Args:
        example: An input of the model, as it is called.
        method: A method, or its name.
        target: How small; the method's own target by default.
        calibration: Samples for methods that look at data.
        exact: Keep channels that are averaged over, see `prunus.prune`.
        seed: Of every random choice.
    """

    def __init__(
        self,
        example: Example,
        method: Method | str,
        *,
        target: Target | None = None,
        calibration: Calibration | None = None,
        exact: bool = True,
        seed: int = 0,
    ) -> None:
        self._example, self._method = example, method
        self._options: dict[str, Any] = {
            "target": target,
            "calibration": calibration,
            "exact": exact,
            "seed": seed,
        }
        self._pruner: Pruner | None = None
        self._result: Result | None = None

    @property
    def pruner(self) -> Pruner:
        """The pruner, once training has begun."""
        if self._pruner is None:
            raise TrainingError("training has not begun; the pruner is made when it does.")
        return self._pruner

    @property
    def result(self) -> Result:
        """The smaller network, once training has ended."""
        if self._result is None:
            raise TrainingError("training has not ended; the result is made when it does.")
        return self._result

    def begin(
        self,
        model: nn.Module,
        steps_per_epoch: int | None,
        state: Mapping[str, Tensor] | None,
        *,
        total: float,
        scaled: bool = False,
    ) -> None:
        """Start on a model, or go on from the state of a checkpoint.

        Args:
            model: What is pruned.
            steps_per_epoch: Optimizer steps of an epoch.
            state: Of the pruner, where training goes on.
            total: Optimizer steps that training ends after; infinite where that is not known.
            scaled: Whether the trainer scales the loss, as for float16.

        Raises:
            ValueError: The method sends training back, which the trainer would not notice, its
                schedule ends after the training, or it adds to a loss that is scaled.
        """
        method = resolve(self._method)
        _check(method, method.timeline(steps_per_epoch).end, total, scaled)
        unit = method.granularity
        if state and isinstance(unit, Unstructured) and unit.permute:  # channels have moved there
            method = replace(method, granularity=replace(unit, permute=False))
        self._pruner = Pruner(
            model, self._example, method, steps_per_epoch=steps_per_epoch, **self._options
        )
        self._result = None
        if state:
            self._pruner.load_state(dict(state))

    def before_step(self) -> None:
        """Add the gradient of the method's penalty, right before an optimizer step."""
        penalty = self.pruner.penalty()
        if isinstance(penalty, Tensor) and penalty.requires_grad:
            penalty.backward()  # type: ignore[no-untyped-call]

    def after_step(self, optimizer: Optimizer) -> None:
        """Act after an optimizer step."""
        self.pruner.step(optimizer)

    def end(self) -> None:
        """Take out what the mask drops, and prove the result."""
        self._result = self.pruner.finish()


def _check(method: Method, end: int, total: float, scaled: bool) -> None:
    """Refuse what a trainer cannot do, before anything is pruned."""
    if method.rewind is not None:
        raise ValueError(
            f"method {method.name!r} sends training back to an earlier step, and the trainer's "
            "learning rate would not follow; use prunus.training.fit, a recipe, or a loop of "
            "your own."
        )
    if end > total:
        raise ValueError(
            f"the schedule of method {method.name!r} ends after {end} steps, but training "
            f"after {total:.0f}; train longer, or give the method an earlier end (begin, where "
            f"it has no end), such as '{total:.0f}it'."
        )
    if scaled and method.adds_to_the_loss:
        raise ValueError(
            f"method {method.name!r} adds to the loss, which the trainer scales for float16, and "
            "its own term would be lost beside it; train in bfloat16 or float32, or in a loop of "
            "your own, as the documentation of prunus.Pruner shows."
        )
