"""Filters chosen by agents that learn from trials."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.selectors.agent import Agent, normalised, reward, surrogate
from prunus.selectors.base import Decision
from prunus.selectors.reach import top
from prunus.selectors.topk import TopK
from prunus.selectors.trials import Trials
from prunus.space import Space, UnitGroup
from prunus.types import Keep, Scores, Target

_log = logging.getLogger(__name__)

_DECIDED = 0.4  # how far from even the probability of keeping a filter is when it is settled


@dataclass(frozen=True, kw_only=True)
class PolicyGradient:
    """An agent per layer, from the first to the last, trained by REINFORCE on trials.

    Each update draws some decisions from the agent's policy, tries each out (prune, train for a
    moment, measure), and moves the policy towards those of higher reward. When the policy is sure
    of every filter (below 0.1 or above 0.9) and no longer changes, the layer is pruned, the network
    trained on, and the next layer's agent begins. The baseline stays that of the network as given,
    so that the tolerance bounds the whole drop.

    Args:
        tolerance: The drop of the metric allowed, in points: larger, smaller networks.
        samples: Decisions drawn for each update.
        updates: At most so many for each layer.
        patience: Updates without change after which a layer is done.
        rate: Of the agents' Adam.
        start: Probability with which filters are kept at first.
        trial_steps: Optimizer steps of a trial.
        settle_steps: Optimizer steps after a layer is pruned.
        trial_rate: Learning rate of both.
        round_to: Widths are multiples of this where a target is given.

    Raises:
        ValueError: A field is out of range.
    """

    tolerance: float = 1.0
    samples: int = 5
    updates: int = 100
    patience: int = 5
    rate: float = 0.01
    start: float = 0.8
    trial_steps: int = 20
    settle_steps: int = 100
    trial_rate: float = 1e-3
    round_to: int = 1

    def __post_init__(self) -> None:
        for name in ("tolerance", "rate", "trial_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}.")
        for name in ("samples", "updates", "patience", "round_to"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}.")
        if not 0 < self.start < 1:
            raise ValueError(f"start must be in (0, 1), got {self.start!r}.")

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Learn what stays; with a target, every layer keeps its most probable filters.

        Without a target the policies decide how many, too. Each layer that is done is logged.

        Raises:
            ValueError: There are no samples with targets.
            TargetError: The target is out of reach.
        """
        widths: dict[str, int] = {}
        if target is not None:
            alike = {group.name: torch.zeros(group.size) for group in groups}
            even = TopK(scope="layer", round_to=self.round_to)
            kept = even.select(space, groups, alike, target).keep
            widths = {name: int(units.sum()) for name, units in kept.items()}
        trials = Trials(space, evidence, steps=self.trial_steps, rate=self.trial_rate)
        baseline = trials.measure()
        keep: Keep = {}
        for number, group in enumerate(evidence.track(groups, "layers"), start=1):
            filters = group.gather(trials.weights())  # pruned and trained so far
            inputs = filters.shape[1] // max(1, _window(group, evidence))
            agent = Agent(filters, inputs, start=self.start, generator=evidence.generator)
            logits = self._learn(agent, group, trials, baseline, evidence)
            width = widths.get(group.name, max(1, int((logits > 0).sum())))
            keep[group.name] = top(logits, width)
            trials.settle(group.name, keep[group.name], self.settle_steps)
            if _log.isEnabledFor(logging.INFO):  # for measuring takes a while
                _log.info(
                    "layer %d of %d: %s keeps %d of %d filters; "
                    "%d trials so far, %.2f %% (%.2f %% before)",
                    *(number, len(groups), group.name, width, group.size),
                    *(trials.count, trials.measure(), baseline),
                )
        return Decision(keep, trials.weights())

    def _learn(
        self,
        agent: Agent,
        group: UnitGroup,
        trials: Trials,
        baseline: float,
        evidence: Evidence,
    ) -> Tensor:
        """Return the logits of a trained policy, shape (units,)."""
        optimizer = torch.optim.Adam(agent.parameters(), self.rate)
        before, still = torch.ones(group.size, dtype=torch.bool), 0
        name = f"updates for {group.name}, {self.samples} trials each"
        for _ in evidence.track(range(self.updates), name):
            with torch.enable_grad():
                logits = agent()
                drawn = torch.rand(self.samples, group.size, generator=evidence.generator)
                actions = (drawn < logits.detach().sigmoid()).float()
                rewards = [
                    self._reward(action.bool(), group, trials, baseline) for action in actions
                ]
                optimizer.zero_grad()
                surrogate(logits, actions, normalised(torch.tensor(rewards))).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            kept = agent().detach().sigmoid()
            decided = bool(((kept - 0.5).abs() > _DECIDED).all())
            still = still + 1 if decided and torch.equal(kept > 0.5, before) else 0
            before = kept > 0.5
            if still >= self.patience:
                break
        learned: Tensor = agent().detach()
        return learned

    def _reward(self, kept: Tensor, group: UnitGroup, trials: Trials, baseline: float) -> float:
        count = int(kept.sum())
        if not count:
            return -1.0  # a layer without filters is no network
        found = trials.of(group.name, kept)
        return reward(group.size, count, baseline, found, self.tolerance)


def _window(group: UnitGroup, evidence: Evidence) -> int:
    """Return the kernel positions of the layer that makes the channels."""
    weight = evidence.weights.get(f"{group.name}.weight")
    return weight[0, 0].numel() if weight is not None and weight.ndim > 2 else 1
