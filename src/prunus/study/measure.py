"""What one cell of a study is worth and what it took: quality, size, and the training spent."""

from collections.abc import Iterable, Mapping
from typing import Any

from prunus.methods import Method
from prunus.recipe import Recipe
from prunus.selectors import TopK
from prunus.study.cells import Cell

STEP = 3
"""Forward passes that a training step costs: the backward pass is two products for each of one."""

_FRESH = ("scratch_e", "scratch_b", "scratch_b_2x", "reinit")

Found = Mapping[str, Any]
Size = dict[str, int]


def values(cell: Cell, results: Mapping[str, Found], recipe: Recipe, dense: Size) -> Found:
    """Return the numbers of a cell that is done, as plain data.

    Training is counted in multiply-accumulates: three forward passes per sample, masked weights
    not counted (nor are they in scratch-B's budget), a teacher's answer one pass more. `own` is
    what the arm itself trains; `total` adds what it cannot do without: the unpruned network's
    training for all that begin from its weights or whose widths are read off them.

    Args:
        cell: The cell.
        results: What each of its stages found, by name.
        recipe: One that has these stages.
        dense: Size of the unpruned network.

    Returns:
        "metric" and its values "test" and "val"; "resolution", the step between such values;
        "macs", "params" and "bytes"; under "own" and "total" epochs and MACs; and "made", how an
        equal-size network came about.
    """
    result = results[cell.stage]
    metric = next(m for m in ("mean_iou", "perplexity", "accuracy") if m in result)
    small = _size(cell.arm, results, dense)
    taught = recipe.soft_targets is not None
    spent = {name: _spent(name, results[name], small, dense, taught) for name in results}
    alone = cell.arm == "small_dense" or (
        cell.arm in _FRESH and known_in_advance(recipe.method.build())
    )
    counted = [cell.stage] if alone else list(spent)
    total = {key: sum(spent[name][key] for name in counted) for key in ("epochs", "macs")}
    return {
        "metric": metric,
        "test": result[metric],
        "val": (result.get("val") or {}).get(metric),
        "resolution": 1 / result["tested"] if metric == "accuracy" else 0.0,
        **small,
        "own": spent[cell.stage],
        "total": total,
        "made": result.get("made"),
    }


def dense_size(results: Iterable[Found]) -> Size:
    """Return MACs, parameters and bytes of the unpruned network, from any report on a pruned one.

    Where nothing was pruned yet they are not known, and taken as 0.
    """
    for result in results:
        if "report" in result:
            return {name: costs["dense"] for name, costs in result["report"]["costs"].items()}
    return {"macs": 0, "params": 0, "bytes": 0}


def known_in_advance(method: Method) -> bool:
    """Whether the widths that a method leaves are known before anything is trained.

    The paper calls such methods predefined: every layer loses a share that was given.
    """
    selector = method.selector
    return method.structured and isinstance(selector, TopK) and selector.scope == "layer"


def _size(arm: str, results: Mapping[str, Found], dense: Size) -> Size:
    """Return what an arm's network costs."""
    if arm == "unpruned":
        return dense
    if arm == "small_dense":
        return {"params": results[arm]["params"], **results[arm]["costs"]}
    return pruned_size(results["prune"])


def pruned_size(pruned: Found) -> Size:
    """Return MACs for one input, parameters and bytes; the first two without masked weights.

    Args:
        pruned: The result of the stage `prune`.
    """
    report, macs = pruned["report"], pruned["macs"]
    size = {name: costs["pruned"] for name, costs in report["costs"].items()}
    if report["form"] != "masked":
        return size
    gone = macs["dense"] - macs["pruned"]
    return size | {"macs": size["macs"] - gone, "params": report["nonzero"]}


def _spent(stage: str, result: Found, small: Size, dense: Size, taught: bool) -> dict[str, float]:
    """Return the epochs and MACs that one stage trained for."""
    if "samples" not in result:
        return {"epochs": 0.0, "macs": 0.0}
    whole = stage in ("dense", "prune")
    passes = STEP * (dense if whole else small)["macs"]
    if taught and stage in ("prune", "recover", "random"):
        passes += dense["macs"]
    return {"epochs": result["epochs"], "macs": float(result["samples"] * passes)}
