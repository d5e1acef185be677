"""Keep the units of highest score: per layer, per stage, or over the whole network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from prunus.criteria import Evidence
from prunus.errors import EmptyLayerError, TargetError
from prunus.selectors.base import Decision
from prunus.selectors.rank import lowest
from prunus.selectors.reach import nearest_width, reach, step, top
from prunus.space import Space, UnitGroup, first_match, must_match, stages
from prunus.types import Keep, Scores, Target

Scope = Literal["layer", "stage", "global"]


@dataclass(frozen=True, kw_only=True)
class TopK:
    """Exact top-k, ties kept in order of index.

    A target of sparsity or density is a share of units, met exactly. A target of macs, params or
    bytes is met by searching the share whose cost is nearest, then moving single widths.

    Args:
        scope: Units compete within a "layer" (every layer gives the same share), within a "stage"
            (layers computed at equally many positions) or over the whole network ("global").
        ratios: Shell pattern of group names -> share of units removed there, first match wins.
            Groups that match lose this share whatever the target; the rest meets the target.
        round_to: Channel widths are multiples of this where the dense width allows; a target of
            sparsity or density is met exactly instead.
        min_keep: Units that every group keeps at least; branches may all go.

    Raises:
        ValueError: A field is out of range.
    """

    scope: Scope = "global"
    ratios: Mapping[str, float] = field(default_factory=dict)
    round_to: int = 1
    min_keep: int = 1

    def __post_init__(self) -> None:
        if self.scope not in ("layer", "stage", "global"):
            raise ValueError(f"scope must be 'layer', 'stage' or 'global', got {self.scope!r}.")
        for pattern, ratio in self.ratios.items():
            if not 0 <= ratio <= 1:
                hint = f" Did you mean {ratio / 100:g}?" if 1 < ratio < 100 else ""
                raise ValueError(f"ratios[{pattern!r}] must be in [0, 1], got {ratio:g}.{hint}")
        if self.round_to < 1:
            raise ValueError(f"round_to must be at least 1, got {self.round_to}.")
        if self.min_keep < 0:
            raise ValueError(f"min_keep must be at least 0, got {self.min_keep}.")

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence | None = None,
    ) -> Decision:
        """Choose which units stay; without a target only `ratios` count.

        Raises:
            TargetError: The target is out of reach; the message says how far it got.
            EmptyLayerError: A layer would lose all its units.
        """
        must_match("ratios", self.ratios, [group.name for group in groups])
        fixed = {group.name: first_match(group.name, self.ratios, None) for group in groups}
        keep: Keep = {
            group.name: self._keep_share(group, scores[group.name], ratio)
            for group in groups
            if (ratio := fixed[group.name]) is not None
        }
        free = [group for group in groups if fixed[group.name] is None]
        if target is None:
            return Decision(keep)
        if target.metric in ("sparsity", "density"):
            share = self._remaining_share(groups, free, keep, target)
            for pool in self.pools(free):
                keep |= self._cut(pool, scores, share)
            return Decision(keep)
        return Decision(
            reach(
                space,
                self.pools(free),
                scores,
                target,
                settled=keep,
                round_to=self.round_to,
                min_keep=self.min_keep,
            )
        )

    def pools(self, groups: Sequence[UnitGroup]) -> list[list[UnitGroup]]:
        """Return the groups that compete with each other."""
        if self.scope == "global":
            return [list(groups)] if groups else []
        if self.scope == "layer":
            return [[group] for group in groups]
        return stages(groups)

    def _remaining_share(
        self,
        groups: Sequence[UnitGroup],
        free: Sequence[UnitGroup],
        settled: Keep,
        target: Target,
    ) -> float:
        """Return the share that the free groups must lose for the whole to lose what is asked."""
        share = target.removed
        if not settled:
            return share
        wanted = share * sum(group.size for group in groups)
        gone = sum(int((~kept).sum()) for kept in settled.values())
        left = sum(group.size for group in free)
        if not 0 <= wanted - gone < left and round(wanted) != gone:
            raise TargetError(
                f"{target.metric} {target.value:g} cannot be reached: the ratios remove {gone} "
                f"units, {wanted:.0f} are asked for, and {left} more are free to go."
            )
        return max(0.0, wanted - gone) / left if left else 0.0

    def _keep_share(self, group: UnitGroup, scores: Tensor, ratio: float) -> Tensor:
        """Keep int(size * (1 - ratio)) units, the count of Li et al., then rounded."""
        width = int(group.size * (1 - ratio) + (0.5 if group.may_vanish else 1e-9))
        if max(width, self.min_keep) < 1 and not group.may_vanish:
            raise EmptyLayerError(
                f"{group.name!r} would lose all {group.size} units; lower the ratio or set "
                f"min_keep (now {self.min_keep})."
            )
        width = nearest_width(group, width, step(group, self.round_to), self.min_keep)
        return top(scores, width)

    def _cut(self, pool: Sequence[UnitGroup], scores: Scores, share: float) -> Keep:
        """Drop the lowest `share` of all units in `pool`, but no group below `min_keep`."""
        ranked = {group.name: scores[group.name].clone() for group in pool}
        total = spare = 0
        for group in pool:
            least = 0 if group.may_vanish else min(self.min_keep, group.size)
            total, spare = total + group.size, spare + group.size - least
            if least == 1:
                ranked[group.name][ranked[group.name].argmax()] = float("inf")
            elif least:
                ranked[group.name][top(ranked[group.name], least)] = float("inf")
        if share * total - spare >= 1:
            raise TargetError(
                f"sparsity {share:g} cannot be reached: with min_keep={self.min_keep} at most "
                f"{spare / total:.3f} of the units of {pool[0].name!r}"
                f"{' and its rivals' if len(pool) > 1 else ''} can go."
            )
        count = min(round(share * total), spare)
        marked = lowest(list(ranked.values()), count)
        keep = {name: ~mark for name, mark in zip(ranked, marked, strict=True)}
        for group in pool:
            if not keep[group.name].any() and not group.may_vanish:
                raise EmptyLayerError(
                    f"{group.name!r} would lose all {group.size} units; lower the ratio or set "
                    f"min_keep (now {self.min_keep})."
                )
        return keep
