"""An ordinary dense network as large as the pruned one: what a narrower design would have given.

Source: Zhu and Gupta, 2017, arXiv:1710.01878: large sparse networks against small dense ones.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from prunus.criteria import Random
from prunus.methods import Method
from prunus.pruning import prune
from prunus.selectors import TopK
from prunus.space import Structured, trace
from prunus.types import Example, Target

_HALVINGS = 12  # of the interval in which the width is searched: to a four-thousandth


def size_of(report: Mapping[str, Any]) -> tuple[str, float]:
    """Return by which cost a pruned network is matched, and its share of the dense network's.

    That is the cost that was aimed at; for single weights the parameters that are not zero, since
    no dense network has MACs that are left out.

    Args:
        report: Of the pruned network, as plain data.
    """
    costs, metric = report["costs"], (report["target"] or {}).get("metric", "macs")
    if report["form"] == "masked":
        return "params", report["nonzero"] / costs["params"]["dense"]
    metric = metric if metric in costs else "macs"
    return metric, costs[metric]["pruned"] / costs[metric]["dense"]


def equal_size(
    network: nn.Module,
    narrow: Callable[[float], nn.Module] | None,
    example: Example,
    metric: str,
    share: float,
    seed: int,
) -> tuple[nn.Module, str]:
    """Return a network whose cost is `share` of the dense one's, and how it was made.

    Args:
        network: The dense one; it stays as it was.
        narrow: Builds it with its width times a factor in (0, 1]; None where it has no such option.
            Then the same share of channels goes from every layer, at random.
        example: An input.
        metric: "macs", "params" or "bytes".
        share: In (0, 1].
        seed: Of the random choice.

    Raises:
        TargetError: Channels cannot go to that share.
    """
    if narrow is None:
        uniform = Method(
            name="uniform",
            granularity=Structured(),
            criterion=Random(),
            selector=TopK(scope="layer"),
        )
        small = prune(network, example, method=uniform, target=Target.of(metric, share), seed=seed)
        return small.model, "uniform channels"

    def cost(one: nn.Module) -> int:
        return trace(one, example).cost(metric).dense

    wanted = share * cost(network)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(narrow(middle)) <= wanted else (low, middle)
    nearest = min(filter(None, (low, high)), key=lambda width: abs(cost(narrow(width)) - wanted))
    return narrow(nearest), "narrower"
