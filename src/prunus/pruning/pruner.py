"""Pruning inside any training loop."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.criteria import Calibration, Gathering
from prunus.errors import EquivalenceError, TargetError
from prunus.masking import Hard, Masking, Site
from prunus.methods import Method
from prunus.methods.composition import composition
from prunus.pruning.in_time import aim, stand_in
from prunus.pruning.plan import Plan
from prunus.pruning.ranks import agreed
from prunus.pruning.result import Result
from prunus.pruning.state import check_state, part
from prunus.ranks import from_first
from prunus.recovery import Rewinding
from prunus.selectors import Decision
from prunus.space.permute import by_place
from prunus.space.remove import mend, sliced
from prunus.space.unwrap import unwrapped
from prunus.types import Example, Keep, Mask, Target


class Pruner:
    """Prunes a network while any training loop trains it.

    Call `step` after each `optimizer.step()`, and `finish` when training is done. The model stays
    a plain module throughout: no wrappers, the same parameters and state-dict keys. Masked weights
    get no gradient, so that `clip_grad_norm_` does not see them. Only methods whose masks act
    inside the forward (gates, factors, scores) hook into the modules, until they are done.

    Args:
        model: The network being trained, pruned in place (masked) until `finish`. Where the method
            permutes channels for blocks, they change places at once: make the optimizer, and
            averages of the weights, afterwards.
        example: An input of it; costs are counted for exactly this input.
        method: A method, or its name in `prunus.methods.METHODS`.
        target: How small; the method's own target by default. For a time, networks without their
            smallest filters are timed at once, by the first of several ranks, to know the share of
            MACs to train towards; what the result takes is measured at the end.
        also: Further inputs of it, see `prunus.prune`.
        exact: Keep channels that are averaged over, see `prunus.prune`.
        calibration: Samples for methods that look at data.
        steps_per_epoch: Needed where the method's lengths count epochs.
        seed: Of every random choice.
        progress: Draw how far the search for a time is, see `prunus.prune`.

    Raises:
        UntraceableError: The model fails on the example.
        EquivalenceError: No channels at all can be taken out of the model's forward.
        TargetError: The target cannot be reached.
        RankError: The first of several ranks could not meet the time asked for.
        ValueError: The method is unknown, or nothing in the model can be pruned by it.

    Example::

        pruner = Pruner(model, example, "gradual", target=Target(sparsity=0.9))
        for x, y in loader:
            loss = criterion(model(x), y) + pruner.penalty()
            loss.backward()
            optimizer.step()
            pruner.step(optimizer)
            optimizer.zero_grad()
        small = pruner.finish(optimizer).model

    With a `torch.amp.GradScaler` the numbers that some methods learn see scaled gradients, since no
    optimizer knows them; a step in which these overflow is left out for them, too::

        scaler.scale(loss).backward()
        scaler.step(optimizer)
        pruner.step(optimizer, scale=scaler.get_scale())
        scaler.update()
        optimizer.zero_grad()

    A method that rewinds sends training back after each update of the mask. The pruner resets
    weights and optimizer; a loop of your own does the same to its learning rate, for which
    `rewound` gives the step, and looks at a trained network before it is reset by calling the two
    halves of `step` itself::

        pruner.hold(optimizer)
        if pruner.rewinds:
            evaluate(model)
        pruner.update(optimizer)
        if pruner.rewound is not None:
            scheduler = make_scheduler(optimizer, start=pruner.rewound)

    Attributes:
        plan: The method applied to the network.
        mended: Whether the last step may have given weights new values, beside zeros.
        keep: The decision as it is.
        steps: Optimizer steps made.
        rewinding: The trainings of a method that rewinds.
        gathering: What training has summed up since the last decision, for methods that look at it.
        timeline: When the mask is updated.
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
        progress: bool = False,
    ) -> None:
        self.model = model = unwrapped(model)
        self.example = example
        self.plan = Plan(
            model, example, method, target, also=also, exact=exact, calibration=calibration
        )
        named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        mend(model, {name: sliced(named[name], dims) for name, dims in self.plan.order.items()})
        if self.plan.method.structured:
            self.plan.probe(model, example)
        if self.plan.stopwatch is not None:
            self.plan.target = self.plan.partial(from_first(partial(self._aimed, progress)))
        self.keep: Keep = {}
        self.steps = 0
        self.mended = False
        self._anchor: dict[str, Tensor] = {}
        form = getattr(self.plan.method.criterion, "gathers", None)
        self.gathering = None if form is None else Gathering(form)
        self._finished = False
        self.timeline = self.plan.method.timeline(steps_per_epoch)
        self.rewinding = Rewinding(model, self.plan.method.rewind, self.timeline)
        self._generator = torch.Generator().manual_seed(seed)
        self._masking = self._applied()
        self._parameters = dict(model.named_parameters())
        if self.timeline.due(0):
            self._update(None)

    def _aimed(self, progress: bool) -> float:
        """Return the share of MACs, or of weights, to train towards, found by timing."""
        filters = stand_in(self.plan)

        def decide() -> Decision:
            return filters.decide(self.model, torch.Generator(), filters.removed)

        aim(filters, self.model, self.example, decide, share_only=True, progress=progress)
        assert filters.target is not None
        return filters.target.value

    def _applied(self) -> Masking:
        return self.plan.method.masking.on(
            Site(
                self.model,
                self.plan.space,
                self.plan.groups,
                self.plan.target,
                self._generator,
                self.timeline.end,
                self.example,
                self._needs_gradients,
            )
        )

    @property
    def described(self) -> str:
        """The method and the target in words, which tell this pruner from others."""
        return ", ".join((*composition(self.plan.method).values(), str(self.plan.asked)))

    @property
    def mask(self) -> Mask:
        """The mask as it is now, over every parameter and channel-carrying buffer."""
        return self.plan.mask(self.keep)

    def adopt(self, mask: Mask) -> None:
        """Take up a mask that was found elsewhere; what the method decides later replaces it.

        Args:
            mask: Parameter name -> bool; covers what the method prunes.
        """
        self.keep = {group.name: group.gather(mask).any(dim=1) for group in self.plan.groups}
        self._masking.set(self.mask)

    def detach(self) -> None:
        """Let go of the network before the schedule ends; its masked weights are zero."""
        self._masking.detach()

    def penalty(self) -> Tensor | float:
        """Return what the method adds to the loss until its schedule ends; 0.0 for most methods."""
        if self.steps >= self.timeline.end:
            return 0.0
        penalty, own = self.plan.method.penalty, self._masking.penalty()
        return own if penalty is None else own + penalty.value(self.plan.groups, self._parameters)

    def step(self, optimizer: Optimizer | None = None, *, scale: float = 1.0) -> None:
        """Keep masked weights at zero and update the mask when it is due: `hold` and `update`.

        Args:
            optimizer: Its state is zeroed for weights whose mask changed. Group lasso and methods
                that learn act with the learning rate that it has for the pruned weights.
            scale: What the loss was multiplied by, `scaler.get_scale()` before `scaler.update()`,
                which methods that learn divide by.

        Raises:
            ValueError: Something is learned, but there is no optimizer that trains these weights.
        """
        self.hold(optimizer, scale=scale)
        self.update(optimizer)

    def hold(self, optimizer: Optimizer | None = None, *, scale: float = 1.0) -> None:
        """Count an optimizer step and keep masked weights at zero; arguments as for `step`."""
        penalty = self.plan.method.penalty
        rates = self._rates(optimizer) if self.steps < self.timeline.end else {}
        if penalty is not None and self.steps < self.timeline.end:
            penalty.shrink(self.plan.groups, self._parameters, rates)
        if self.gathering is not None and self._gathers():
            own = {n: p.grad for n, p in self._parameters.items() if p.grad is not None}
            if scale == 1 or all(bool(gradient.isfinite().all()) for gradient in own.values()):
                self.gathering.add(own)  # scaler.step has taken the scale out of them
        self.steps += 1
        rate = max(rates.values(), default=None)
        self._masking.apply(rate, scale)  # first: the optimizer has moved what was masked
        self.rewinding.remember(self.steps)

    def update(self, optimizer: Optimizer | None = None, *, late: bool = False) -> None:
        """Update the mask if it is due after the step that was held, or `late`: was due before."""
        self.rewinding.rewound, self.mended = None, False
        if (late or self.timeline.due(self.steps)) and not self._finished:
            self._update(optimizer)

    @property
    def rewinds(self) -> bool:
        """Whether `update` now sends training back."""
        due = self.timeline.due(self.steps) and not self._finished
        return due and self.plan.method.rewind is not None

    @property
    def rewound(self) -> int | None:
        """The step of a training to which the last `step` or `update` went back, or None."""
        return self.rewinding.rewound

    def total(self, length: int) -> int:
        """Return the steps of all trainings together when one has `length` steps."""
        return self.rewinding.total(length)

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

        Warns:
            DecisionWarning: Nothing goes, although something was to, or nearly all of one layer.
        """
        if self._finished:
            raise ValueError(
                "finish was called before; make a new Pruner to prune the result again."
            )
        if self.steps < self.timeline.end:
            raise TargetError(
                f"the schedule ends after {self.timeline.end} steps, but only {self.steps} were "
                "made; train on, or give the method an earlier end."
            )
        mask = self.mask
        self._masking.detach()
        conclude = partial(
            self.plan.conclude,
            *(self.model, Decision(self.keep), self.example, optimizer),
            check=check,
            learned=self._masking.scores(),
        )
        try:
            try:
                result = conclude()
            except EquivalenceError:
                if not self.plan.trace_again(self.model):
                    raise
                result = conclude()
        except Exception:
            self._masking.load(mask)
            raise
        self._finished = True
        self._masking = Hard(result.model)
        if not self.plan.method.structured:
            self._masking.set(result.mask)
        return result

    def state(self) -> dict[str, Tensor | int | float | str]:
        """Return what a checkpoint must hold: method, step, decision, weights to go back to."""
        kept = {f"keep.{name}": keep.clone() for name, keep in self.keep.items()}
        own = {f"masking.{name}": value.clone() for name, value in self._masking.state().items()}
        again = {f"rewinding.{name}": value for name, value in self.rewinding.state().items()}
        anchor = {f"anchor.{name}": value.clone() for name, value in self._anchor.items()}
        target = self.plan.target if self.plan.stopwatch is not None else None
        aimed = {} if target is None else {"target": target.value}
        counted = {f"method.{self.plan.method.name}": True, "steps": self.steps, **aimed}
        units = {f"units.{group.name}": group.size for group in self.plan.groups}
        order = {f"order.{name}": places for name, places in by_place(self.plan.order).items()}
        sums = self.gathering.sums if self.gathering is not None else {}
        summed = {f"gathered.{name}": value.clone() for name, value in sums.items()}
        drawn = {"generator": self._generator.get_state()}
        parts = (counted, units, drawn, kept, anchor, own, again, summed, order)
        return {name: value for part in parts for name, value in part.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`; the model's own weights are loaded after the pruner is made.

        Raises:
            CheckpointError: It is the state of another network or method.
        """
        check_state(state, self.plan)
        if "target" in state and self.plan.stopwatch is not None:  # not what is measured today
            self.plan.target = self.plan.partial(float(state["target"]))
            self._masking.detach()
            self._masking = self._applied()
        self.steps = int(state["steps"])
        self._generator.set_state(state["generator"])
        self.keep = {name: keep.bool() for name, keep in part(state, "keep.").items()}
        self._anchor = part(state, "anchor.")
        if self.gathering is not None:
            self.gathering.clear()
            self.gathering.merge(part(state, "gathered."))
        self._masking.load(self.mask)
        self._masking.load_state(part(state, "masking."))
        self.rewinding.load_state(part(state, "rewinding."))
        if self.steps >= self.timeline.end:
            self._masking.settle()

    def _update(self, optimizer: Optimizer | None) -> None:
        share = self.timeline.amount(self.steps, self.plan.removed)
        progress = self.timeline.progress(self.steps)
        self._anchor = self._anchor or self.plan.anchor(self.model, self._generator)
        decision = self.plan.decide(
            self.model,
            self._generator,
            share,
            self.keep,
            progress,
            self._masking.scores(),
            self._anchor,
            self.gathering.sums if self.gathering is not None else None,
        )
        if self.gathering is not None:
            self.gathering.clear()
        device = next((p.device for p in self._parameters.values()), torch.device("cpu"))
        decision = agreed(decision, device)
        self.keep = decision.keep
        mend(self.model, decision.patch)
        self.rewinding.go_back(self._density(), optimizer)
        self._masking.set(self.mask, optimizer)
        self.mended = bool(decision.patch) or self._masking.mends
        if self.steps >= self.timeline.end:
            self._masking.settle()

    def _rates(self, optimizer: Optimizer | None) -> dict[str, float]:
        """Return the learning rate of each group, the lowest of its weights."""
        by_id = {
            id(parameter): float(group["lr"])
            for group in (optimizer.param_groups if optimizer is not None else ())
            for parameter in group["params"]
        }
        found = {
            group.name: min(by_id.get(id(self._parameters[name]), 0.0) for name in group.tensors)
            for group in self.plan.groups
        }
        return found if any(id(p) in by_id for p in self._parameters.values()) else {}

    def _needs_gradients(self) -> bool:
        """Say whether the next update looks at gradients of masked weights."""
        looks = getattr(self.plan.method.criterion, "dense_gradients", False)
        looks = looks and self.timeline.due(self.steps + 1) and not self._finished
        return looks or self._gathers()

    def _gathers(self) -> bool:
        """Say whether the gradients of the step under way are summed up."""
        wanted = self.gathering is not None and self.steps < self.timeline.end
        return wanted and not self._finished

    def _density(self) -> float:
        kept = sum(int(keep.sum()) for keep in self.keep.values())
        return kept / sum(group.size for group in self.plan.groups)
