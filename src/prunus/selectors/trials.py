"""Trying decisions out: prune, train for a moment, measure, and go back."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.criteria.calibration import forward
from prunus.seeds import seeded
from prunus.space import Space
from prunus.space.masked import apply_mask
from prunus.space.remove import copy_sliced
from prunus.types import Keep, Mask


class Trials:
    """A copy of a network on which decisions are tried out.

    There is one copy for all trials; after each its weights are put back. A decision that was tried
    is not tried again.

    Args:
        space: What may be removed.
        evidence: The network, and samples with targets.
        steps: Optimizer steps of a trial.
        rate: Their learning rate, with a momentum of 0.9.

    Raises:
        ValueError: There are no samples, or they have no targets.
    """

    def __init__(self, space: Space, evidence: Evidence, *, steps: int, rate: float) -> None:
        calibration = evidence.calibration
        if calibration is None:
            raise ValueError(
                "this method tries decisions out; pass calibration=prunus.Calibration(batches, "
                "validation=...), with pairs (inputs, targets) (on the command line, --data NAME)."
            )
        self._space, self._calibration = space, calibration
        self._steps, self._rate = steps, rate
        self._model = copy_sliced(evidence.model, {})
        self._train = list(evidence.batches())
        if any(targets is None for _, targets in self._train):
            raise ValueError(
                "this method tries decisions out, so the calibration must yield pairs (inputs, "
                "targets)."
            )
        self._judged = self._train
        if calibration.validation:
            judged = replace(calibration, batches=calibration.validation, validation=None)
            self._judged = list(replace(evidence, calibration=judged).batches())
        self._mask: Mask = {}
        self._keep: Keep = {}
        self._known: dict[bytes, float] = {}
        self._held = self._copied()

    @property
    def count(self) -> int:
        """How many decisions have been tried out."""
        return len(self._known)

    def measure(self) -> float:
        """Return how good the network is as it stands, in percent."""
        self._model.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for inputs, targets in self._judged:
                good = float(self._calibration.metric(forward(self._model, inputs), targets))
                total, count = total + good * len(targets), count + len(targets)
        return 100 * total / max(1, count)

    def of(self, name: str, kept: Tensor) -> float:
        """Return how good the network is, in percent, after pruning one group and a short training.

        Args:
            name: The group, beside those settled before.
            kept: bool, shape (units,), True = kept.
        """
        key = name.encode() + kept.numpy().tobytes()
        if key not in self._known:
            try:
                self._prune(name, kept, self._steps)
                self._known[key] = self.measure()
            finally:
                self._restore()
        return self._known[key]

    def settle(self, name: str, kept: Tensor, steps: int) -> None:
        """Prune a group for good, and train for some steps."""
        self._prune(name, kept, steps)
        self._keep[name] = kept
        self._held = self._copied()

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters and buffers that the network has come to."""
        return {name: tensor.clone() for name, tensor in self._held.items()}

    def _prune(self, name: str, kept: Tensor, steps: int) -> None:
        mask = self._space.mask(self._keep | {name: kept})
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, self._rate, momentum=0.9)
        apply_mask(self._model, mask)
        self._model.train()
        # A trial's result depends on its decision alone.
        with seeded(0, {p.device for p in parameters}), torch.enable_grad():
            for inputs, targets in self._batches(steps):
                optimizer.zero_grad()
                outputs = forward(self._model, inputs)
                self._calibration.loss_of(outputs, targets).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                apply_mask(self._model, mask)

    def _batches(self, steps: int) -> Iterator[Any]:
        return islice(cycle(self._train), steps)

    def _copied(self) -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in self._tensors().items()}

    @torch.no_grad()
    def _restore(self) -> None:
        for name, tensor in self._tensors().items():
            tensor.copy_(self._held[name])

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
