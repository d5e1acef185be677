"""Pruning inside any training loop."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.criteria import Calibration
from prunus.errors import CheckpointError, TargetError
from prunus.masking import Hard, Masking, Site
from prunus.methods import Method
from prunus.pruning.plan import Plan
from prunus.pruning.result import Result
from prunus.selectors import Decision
from prunus.space.remove import mend
from prunus.space.unwrap import unwrapped
from prunus.types import Example, Keep, Mask, Target


class Pruner:
    """Prunes a network while any training loop trains it.

    Call `step` after each `optimizer.step()`, and `finish` when training is done. The model stays
    a plain module throughout: no hooks, no wrappers, the same state-dict keys.

    Args:
        model: The network being trained, pruned in place (masked) until `finish`.
        example: An input of it; costs are counted for exactly this input.
        method: A method, or its name in `prunus.methods.METHODS`.
        target: How small; the method's own target by default.
        also: Further inputs of it, see `prunus.prune`.
        exact: Keep channels that are averaged over, see `prunus.prune`.
        calibration: Samples for methods that look at data.
        steps_per_epoch: Needed where the method's lengths count epochs.
        seed: Of every random choice.

    Raises:
        UntraceableError: The model fails on the example.
        EquivalenceError: No channels at all can be taken out of the model's forward.
        TargetError: The target cannot be reached.
        ValueError: The method is unknown, or nothing in the model can be pruned by it.

    Example::

        pruner = Pruner(model, example, "gradual", target=Target(sparsity=0.9))
        for x, y in loader:
            loss = criterion(model(x), y) + pruner.penalty()
            loss.backward()
            optimizer.step()
            pruner.step(optimizer)
        small = pruner.finish(optimizer).model
    """

    def __init__(
        self,
        model: nn.Module,
        example: Example,
        method: Method | str,
        *,
        target: Target | None = None,
        steps_per_epoch: int | None = None,
        also: Sequence[Example] = (),
        exact: bool = True,
        calibration: Calibration | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model = unwrapped(model)
        self.example = example
        self.plan = Plan(
            model, example, method, target, also=also, exact=exact, calibration=calibration
        )
        if self.plan.method.structured:
            self.plan.probe(model, example)
        self.keep: Keep = {}
        self.steps = 0
        self._finished = False
        self._timeline = self.plan.method.schedule.timeline(steps_per_epoch)
        self._generator = torch.Generator().manual_seed(seed)
        self._masking: Masking = self.plan.method.masking.on(
            Site(model, self.plan.space, self.plan.groups, self.plan.target, self._generator)
        )
        self._parameters = dict(model.named_parameters())
        if self._timeline.due(0):
            self._update(None)

    @property
    def mask(self) -> Mask:
        """The mask as it is now, over every parameter and channel-carrying buffer."""
        return self.plan.mask(self.keep)

    def penalty(self) -> Tensor | float:
        """Return what the method adds to the loss until its schedule ends; 0.0 for most methods."""
        if self.steps >= self._timeline.end:
            return 0.0
        penalty, own = self.plan.method.penalty, self._masking.penalty()
        return own if penalty is None else own + penalty.value(self.plan.groups, self._parameters)

    def step(self, optimizer: Optimizer | None = None) -> None:
        """Keep masked weights at zero and update the mask when it is due.

        Args:
            optimizer: Its state is zeroed for weights whose mask changed.
        """
        penalty = self.plan.method.penalty
        rate = 0.0 if optimizer is None else float(optimizer.param_groups[0]["lr"])
        if penalty is not None and rate and self.steps < self._timeline.end:
            penalty.shrink(self.plan.groups, self._parameters, rate)
        self.steps += 1
        self._masking.apply(rate)  # first: what was masked has been moved by the optimizer
        if self._timeline.due(self.steps) and not self._finished:
            self._update(optimizer)

    def finish(self, optimizer: Optimizer | None = None, *, check: bool = True) -> Result:
        """Remove what the mask drops and prove the result.

        Training may go on with the result's model and the same optimizer. Channels are gone; single
        weights stay zero as long as `step` is called after each optimizer step, as before.

        Args:
            optimizer: Goes on with the small network: parameters replaced, state sliced.
            check: Compare with the masked network in float64.

        Raises:
            TargetError: The schedule has not ended yet.
            ValueError: It was called before, or the optimizer holds none of the model's parameters.
            EquivalenceError: The small network differs; model and optimizer stay as they were.
        """
        if self._finished:
            raise ValueError(
                "finish was called before; make a new Pruner to prune the result again."
            )
        if self.steps < self._timeline.end:
            raise TargetError(
                f"the schedule ends after {self._timeline.end} steps, but only {self.steps} were "
                "made; train on, or give the method an earlier end."
            )
        self._masking.detach()
        result = self.plan.conclude(
            self.model, Decision(self.keep), self.example, optimizer, check=check
        )
        self._finished = True
        self._masking = Hard(result.model)
        if not self.plan.method.structured:
            self._masking.set(result.mask)
        return result

    def state(self) -> dict[str, Tensor | int | float | str]:
        """Return what a checkpoint must hold to go on: the step and the decision."""
        kept = {f"keep.{name}": keep.clone() for name, keep in self.keep.items()}
        own = {f"masking.{name}": value.clone() for name, value in self._masking.state().items()}
        return {"steps": self.steps, "generator": self._generator.get_state(), **kept, **own}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            CheckpointError: It is the state of another network or method.
        """
        known = {group.name for group in self.plan.groups}
        for name in state:
            if name.startswith("keep.") and name.removeprefix("keep.") not in known:
                raise CheckpointError(
                    f"the pruner's state names {name.removeprefix('keep.')!r}, which this network "
                    "and method do not prune; load it with what it was saved from."
                )
        self.steps = int(state["steps"])
        self._generator.set_state(state["generator"])
        self.keep = {
            name.removeprefix("keep."): keep.bool()
            for name, keep in state.items()
            if name.startswith("keep.")
        }
        self._masking.load(self.mask)
        self._masking.load_state(
            {
                name.removeprefix("masking."): value
                for name, value in state.items()
                if name.startswith("masking.")
            }
        )
        if self.steps >= self._timeline.end:
            self._masking.settle()

    def _update(self, optimizer: Optimizer | None) -> None:
        share = self._timeline.amount(self.steps, self.plan.removed)
        progress = self._timeline.progress(self.steps)
        decision = self.plan.decide(
            self.model, self._generator, share, self.keep, progress, self._masking.scores()
        )
        self.keep = decision.keep
        mend(self.model, decision.patch)
        self._masking.set(self.mask, optimizer)
        if self.steps >= self._timeline.end:
            self._masking.settle()
