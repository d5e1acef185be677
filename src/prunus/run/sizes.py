"""What the networks of a run cost, from what its stages found."""

from collections.abc import Iterable, Mapping
from typing import Any

Found = Mapping[str, Any]
Size = dict[str, float]


def dense_size(results: Iterable[Found]) -> Size:
    """Return MACs, parameters and bytes of the unpruned network, from any report on a pruned one.

    Where nothing was pruned yet they are not known, and taken as 0.
    """
    for result in results:
        if "report" in result:
            return {name: costs["dense"] for name, costs in result["report"]["costs"].items()}
    return {"macs": 0, "params": 0, "bytes": 0}


def pruned_size(pruned: Found) -> Size:
    """Return MACs for one input, parameters and bytes; the first two without masked weights.

    Args:
        pruned: The result of the stage `prune`, or of one that has other widths.
    """
    report, macs = pruned["report"], pruned["macs"]
    size = {name: costs["pruned"] for name, costs in report["costs"].items()}
    if report["form"] != "masked":
        return size
    gone = macs["dense"] - macs["pruned"]
    return size | {"macs": size["macs"] - gone, "params": report["nonzero"]}
