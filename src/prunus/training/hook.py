"""What a caller may put into the loop."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.training.checkpoint import Value
from prunus.training.metrics import Record

Objective = Callable[[nn.Module, Any, Tensor], Tensor]
"""(model, inputs, labels) -> mean loss of the batch, a scalar to differentiate.

Inputs are as the data yields them: one tensor, or a tuple of several. Where its mean is not over
the labels other than -100, it says in `counted(labels)` over how many, for ranks to share a batch.
"""

Watch = Callable[[Sequence[Record]], None]
"""Takes all records so far after each new one, those from before a restart too, on the first rank;
may raise to end the training."""


class Hook(Protocol):
    """A pruner, as the loop sees it.

    It may say in `described`, a text, how it differs from others, and in `mended`, a bool, that the
    last step gave weights new values, beside zeros, so that averages of them begin anew.
    """

    def penalty(self) -> Tensor | float:
        """Return what is added to the loss; the number 0 costs nothing."""
        ...

    def step(self, optimizer: Optimizer) -> None:
        """Act after an optimizer step."""
        ...

    def state(self) -> dict[str, Value]:
        """Return all that `step` depends on and the model does not hold."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned; its tensors come back on the CPU."""
        ...


@runtime_checkable
class Rewinder(Hook, Protocol):
    """A hook that may send training back; `step` is then not called, but its two halves."""

    @property
    def rewinds(self) -> bool:
        """Whether `update` now sends training back, so that this training is over."""
        ...

    @property
    def rewound(self) -> int | None:
        """The step to which the last `update` sent training back, or None."""
        ...

    def hold(self, optimizer: Optimizer) -> None:
        """Act after an optimizer step; the network can be evaluated afterwards."""
        ...

    def update(self, optimizer: Optimizer) -> None:
        """Change the mask, and weights and optimizer where training is sent back."""
        ...

    def total(self, length: int) -> int:
        """Return the steps of all trainings together when one has `length` steps."""
        ...
