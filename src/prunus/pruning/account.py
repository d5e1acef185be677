"""The account of a plan that was carried out: what was asked, what was reached, what stayed."""

from typing import TYPE_CHECKING

from torch import nn

from prunus.pruning.notes import notes, unfit
from prunus.pruning.result import Report
from prunus.space import Verification
from prunus.space.graph_network import GraphNetwork
from prunus.types import Keep

if TYPE_CHECKING:
    from prunus.pruning.plan import Plan

_ORDERED = (
    "Channels have changed places, so that blocks lose less: mask and patch are of the network in "
    "its new order."
)


def account(
    plan: "Plan", small: nn.Module, keep: Keep, form: str, verification: Verification | None
) -> Report:
    """Return the report; where a time was asked for, the small network is timed.

    Args:
        plan: What was carried out.
        small: The network that came of it.
        keep: What stays.
        form: What the network is, see `Report`.
        verification: Its proof.
    """
    widths = plan.space.widths(keep if plan.method.structured else {})
    costs = {
        name: (plan.space.cost(name).dense, round(float(plan.space.cost(name).at(widths))))
        for name in ("macs", "params", "bytes")
    }
    if plan.space.gone(keep):  # a norm that only these branches read goes with all of them
        held = list(small.parameters())
        size = sum(p.numel() * p.element_size() for p in held)
        size += sum(b.numel() * b.element_size() for b in small.buffers())
        costs["params"] = costs["params"][0], sum(p.numel() for p in held)
        costs["bytes"] = costs["bytes"][0], size
    only = small.only if isinstance(small, GraphNetwork) else None
    share = sum(int(k.sum()) for k in keep.values()) / sum(g.size for g in plan.groups)
    measured = {"density": share, "sparsity": 1 - share} | {
        name: pruned / max(1, dense) for name, (dense, pruned) in costs.items()
    }
    reading = plan.stopwatch.time(small) if plan.stopwatch is not None else None
    if reading is not None:
        measured |= {"latency_ms": reading.pruned_ms, "speedup": 1 / reading.ratio}
    reached = measured.get(plan.asked.metric) if plan.asked else None
    whole = unfit(plan.method, plan.groups)
    left = (*plan.space.frozen, *plan.method.granularity.left_out(plan.space), *plan.spared)
    return Report(
        method=plan.method.name,
        asked=plan.asked,
        reached=reached,
        reading=reading,
        costs=costs,
        nonzero=sum(int(p.count_nonzero()) for p in small.parameters()),
        groups=[
            {
                "name": group.name,
                "before": group.size,
                "after": int(width),
                "coupled": list(group.coupled),
            }
            for group, width in zip(plan.space.groups, widths.tolist(), strict=False)
        ],
        branches=[branch.name for branch in plan.space.gone(keep)],
        frozen=[
            {"name": f.name, "channels": f.channels, "reason": f.reason}
            for f in dict.fromkeys((*left, *whole))
        ],
        form=form,
        decisions=_ways(plan, small),
        also=len(plan.space.also),
        only=None if only is None else [[[*shape] for shape in way] for way in only],
        verification=verification,
        unknown=dict(plan.space.unknown),
        unseen=list(plan.space.unseen),
        notes=[
            *notes(plan.method, plan.space, plan.asked, reached, whole, plan.spared),
            *([_ORDERED] if plan.order else []),
        ],
    )


def _ways(plan: "Plan", small: nn.Module) -> list[str]:
    """Return what decided the way that was followed; single weights go whatever the way."""
    if not plan.method.structured:
        return []
    if isinstance(small, GraphNetwork):
        return list(small.decisions)
    return plan.space.recording.ways()
