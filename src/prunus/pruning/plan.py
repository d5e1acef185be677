"""One method applied to one network."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.criteria import Anchored, Calibration, Evidence, Limited
from prunus.criteria.base import Track, untracked
from prunus.deploy import Stopwatch
from prunus.errors import DecisionWarning, EquivalenceError, TargetError, UnseenWarning
from prunus.masking import Hard, carry_over
from prunus.methods import METHODS, Method
from prunus.names import did_you_mean
from prunus.pruning.account import account
from prunus.pruning.notes import no_such_unit, not_seen, nothing_went, thin, way_to_couple
from prunus.pruning.result import Result
from prunus.selectors import Decision
from prunus.space import Frozen, trace_for, verify
from prunus.space.finite import refuse_nan
from prunus.space.masked import apply_mask
from prunus.space.permute import permutation
from prunus.space.remove import copy_sliced, kept_index, mend
from prunus.space.shrink import inexpressible, shrink
from prunus.types import Example, Keep, Mask, Scores, Target


class Plan:
    """One method applied to one network: from a decision to a result. It changes nothing.

    Attributes:
        asked: What was asked for.
        target: What the selector aims at: the same, but where a time was asked for, the cost that
            leads to it, see `prunus.pruning.in_time`.
        stopwatch: Measures the result where a time was asked for.
        hint: How more could go than the method takes, to be read after an error.
        track: Shows how far decisions are that take long.
        order: Where the values of channels come from that change places before the first decision.

    Args:
        model: The network.
        example: Its input.
        method: A method or its name.
        target: How small; the method's own target by default.
        also: Further inputs of the model, see `prunus.space.trace`.
        exact: Keep channels that are averaged over, see `prunus.space.trace`.
        calibration: Samples for criteria that look at data.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Example,
        method: Method | str,
        target: Target | None,
        *,
        also: Sequence[Example] = (),
        exact: bool = True,
        calibration: Calibration | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be an nn.Module, got {type(model).__name__}.")
        if target is not None and not isinstance(target, Target):
            raise TypeError(f"target must be a Target, such as Target(macs=0.5), got {target!r}.")
        if calibration is not None and not isinstance(calibration, Calibration):
            raise TypeError(
                f"calibration must be a Calibration, got {type(calibration).__name__}; pass "
                "prunus.Calibration(batches)."
            )
        self.method = resolve(method)
        self.asked = self.target = target or self.method.target
        if self.asked is not None:
            self.method.check_target(self.asked)
            if self.asked.timed:
                self.target = self.partial(1.0)  # until `aim` knows better
        self.example, self.calibration, self._exact = example, calibration, exact
        self.track: Track = untracked
        self.spared: list[Frozen] = []
        granularity = self.method.granularity
        self.space = trace_for(granularity, model, example, also=also, exact=exact)
        refuse_nan(model, (example, *also))
        self.order = permutation(granularity, model, example, also)
        self.stopwatch: Stopwatch | None = None
        if self.asked is not None and self.asked.timed:
            self.stopwatch = Stopwatch(model, example, self.asked.measuring)
        told = " ".join(frozen.reason for frozen in self.space.frozen)
        averaged = "averaged over" in told or "the statistics of" in told
        self.hint = _AVERAGED if exact and averaged else ""
        self.groups = self.method.granularity.groups(self.space)
        if len(self.groups) < len(self.space.groups):
            self.hint += way_to_couple(self.method)
        judges: tuple[object, ...] = (
            self.method.criterion,
            self.method.selector,
            self.method.masking,
        )
        for part in judges:
            if isinstance(part, Limited):
                self.spare(part.unable(self.groups, self._evidence(model, torch.Generator())))
        if not self.groups:
            left = (
                *self.space.frozen,
                *self.method.granularity.left_out(self.space),
                *self.spared,
            )
            reasons = dict.fromkeys(f"{f.name} {f.reason}" for f in reversed(left))
            why = no_such_unit(self.method, self.space) or "; ".join([*reasons][:5])
            raise ValueError(
                f"method {self.method.name!r} finds nothing to prune in {type(model).__name__}: "
                f"{why or 'no layer multiplies its input by weights'}." + self.hint
            )

    @property
    def removed(self) -> float:
        """The share that the target wants removed, in [0, 1)."""
        return 0.0 if self.target is None else self.target.removed

    def partial(self, share: float) -> Target:
        """Return the target of what time is sought along: a share of MACs, or of weights."""
        return Target(macs=share) if self.method.structured else Target(density=share)

    def probe(self, model: nn.Module, example: Example) -> None:
        """Find out at once what could not be taken out at the end, and leave it whole."""
        keep = {
            group.name: torch.arange(group.size) % 2 == int(group.may_vanish)
            for group in self.groups
        }
        try:
            shrink(model, self.space, keep, example)
        except EquivalenceError:
            self.spare(inexpressible(model, self.space, keep, example))
            if not self.groups:
                raise

    def trace_again(self, model: nn.Module) -> bool:
        """Follow the network as it is now: attributes that training sets may go into its graph.

        Returns:
            Whether its units are those that were decided on.
        """
        fresh = trace_for(
            self.method.granularity, model, self.example, also=self.space.also, exact=self._exact
        )
        units = [[(x.name, x.size) for x in space.removable] for space in (self.space, fresh)]
        if units[0] == units[1]:
            self.space = fresh
        return units[0] == units[1]

    def spare(self, groups: Mapping[str, str]) -> None:
        """Leave these groups whole from now on, for the reasons given."""
        self.spared += [
            Frozen(group.name, group.size, groups[group.name])
            for group in self.groups
            if group.name in groups
        ]
        self.groups = [group for group in self.groups if group.name not in groups]

    def anchor(self, model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        """Return what the criterion measures before the first decision, for all later ones."""
        criterion: object = self.method.criterion
        if not isinstance(criterion, Anchored):
            return {}
        return criterion.anchor(self.groups, self._evidence(model, generator))

    def decide(
        self,
        model: nn.Module,
        generator: torch.Generator,
        share: float,
        present: Keep | None = None,
        progress: float = 0.0,
        learned: Scores | None = None,
        anchor: Mapping[str, Tensor] | None = None,
        gathered: Mapping[str, Tensor] | None = None,
    ) -> Decision:
        """Choose what stays when `share` of the target's metric is to be removed.

        Args:
            model: The network as it is now.
            generator: Of every random choice.
            share: How much is to be gone.
            present: The decision as it is.
            progress: How much of the schedule is over, in [0, 1].
            learned: What the masking has learned of each unit.
            anchor: What `anchor` returned before the first decision.
            gathered: What training has summed up since the last decision.
        """
        rounds = self.method.rounds if self.target is not None else 1
        masked, patch = model if rounds == 1 else copy_sliced(model, {}), dict[str, Tensor]()
        before = {n: x.detach() for n, x in (*model.named_parameters(), *model.named_buffers())}
        told = replace(
            self._evidence(model, generator),
            keep=present or {},
            progress=progress,
            learned=learned or {},
            anchor=anchor or {},
            gathered=gathered or {},
        )
        for k in self.track(range(1, rounds + 1), "rounds") if rounds > 1 else (1,):
            now = 1 - (1 - share) ** (k / rounds)
            decision = self._choose(masked, now, told)
            patch |= decision.patch
            if k < rounds:
                mend(masked, before | patch)  # what was masked in this round may stay in the next
                apply_mask(masked, self.mask(decision.keep))
        return Decision(decision.keep, patch)

    def _choose(self, model: nn.Module, share: float, told: Evidence) -> Decision:
        evidence = replace(
            told,
            weights={name: p.detach() for name, p in model.named_parameters()},
            model=model,
            gradients_now={n: p.grad for n, p in model.named_parameters() if p.grad is not None},
        )
        criterion = self.method.criterion
        scores = {} if criterion is None else criterion.score(self.groups, evidence)
        for name, score in scores.items():
            if score.isnan().any():
                raise ValueError(
                    f"the scores of {name!r} contain NaN; the weights or gradients behind them are "
                    "not finite."
                )
        target = self.target
        if target is not None:
            value = share if target.metric == "sparsity" else 1 - share
            target = Target.of(target.metric, value)
        try:
            return self.method.selector.select(self.space, self.groups, scores, target, evidence)
        except TargetError as error:
            raise TargetError(f"{error}{self.hint}") from error

    def _evidence(self, model: nn.Module, generator: torch.Generator) -> Evidence:
        return Evidence(
            weights={name: p.detach() for name, p in model.named_parameters()},
            generator=generator,
            model=model,
            example=self.example,
            calibration=self.calibration,
            track=self.track,
        )

    def mask(self, keep: Keep) -> Mask:
        """Return the mask of a decision over every parameter and channel-carrying buffer."""
        return self.method.granularity.mask(self.space, keep)

    def conclude(
        self,
        model: nn.Module,
        decision: Decision,
        example: Example,
        optimizer: Optimizer | None,
        *,
        check: bool,
        learned: Scores | None = None,
        origin: nn.Module | None = None,
    ) -> Result:
        """Build the small network, prove it, and report.

        Args:
            model: The network that was decided on.
            decision: What stays.
            example: Its input.
            optimizer: Goes on with the small network.
            check: Whether to prove it.
            learned: What the masking has learned of each unit.
            origin: What the optimizer trains, where `model` is a copy of it in the plan's order.

        Warns:
            DecisionWarning: Nothing goes, although something was to, or nearly all of one layer.
            UnseenWarning: Channels are gone beside parameters that no run has met.
        """
        index = self.order if origin is not None else {}
        form, verification = "masked", None
        keep, mended = decision.keep, model
        if decision.patch:
            mended = copy_sliced(model, {})
            mend(mended, decision.patch)
        if self.method.structured:
            shrunk = shrink(mended, self.space, keep, example, check=check)
            small, form, verification = shrunk.model, shrunk.form, shrunk.verification
            index = kept_index(self.space, keep)
        else:
            form = "dense again" if self.method.temporary else form
            small = copy_sliced(mended, {})
            apply_mask(small, self.mask(keep))
            if check:
                verification = verify(self.mask(keep), small, example, model=mended)
        report = account(self, small, keep, form, verification)
        none = nothing_went(self.method, keep, self.asked, learned or {})
        for warning in filter(None, (none, thin(self.method, report.groups))):
            report.notes.insert(0, warning)
            warnings.warn(warning, DecisionWarning, stacklevel=3)
        result = Result(small, self.mask(keep), report, decision.patch)
        if self.method.structured and self.space.unseen and any(not k.all() for k in keep.values()):
            warnings.warn(not_seen(self.space), UnseenWarning, stacklevel=3)
        # last, so that a failure above leaves the optimizer with the network it had
        if optimizer is not None:
            own = dict(small.named_parameters()) if self.space.gone(keep) else {}
            gone = {name for name, _ in model.named_parameters() if own and name not in own}
            carry_over(optimizer, origin or model, small, index, gone)
            if not self.method.structured:
                hard = Hard(small)
                hard.set(result.mask, optimizer)
                hard.detach()
        return result


_AVERAGED = (
    " Channels inside averages, such as a layer norm's, may go with exact=False: averages are then "
    "over what remains."
)


def resolve(method: object) -> Method:
    """Return a method by name, or the method itself.

    Raises:
        TypeError: It is neither.
        ValueError: There is no method of that name.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        name = next((name for name, make in METHODS.items() if make is method), None)
        call = f" Did you mean methods.{name}()?" if name else ""
        raise TypeError(f"method must be a Method or the name of one, got {method!r}.{call}")
    if method not in METHODS:
        raise ValueError(
            f"method {method!r} is unknown; there are {', '.join(METHODS)}."
            + did_you_mean(method, METHODS)
        )
    return METHODS[method]()
