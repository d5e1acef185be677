"""What one cell of a study is worth and what it took: quality, size, and the training spent."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from prunus.methods import Method
from prunus.recipe import SHAPES, Recipe
from prunus.run.sizes import Size, dense_size, pruned_size
from prunus.run.stages import Done
from prunus.selectors import TopK, innermost
from prunus.study.cells import Cell, Cells
from prunus.types import Target

STEP = 3
"""Forward passes that a training step costs: the backward pass is two products for each of one."""

_FRESH = ("scratch_e", "scratch_b", "scratch_b_2x", "reinit", "guided", "transferred")

Found = Mapping[str, Any]


def values(cell: Cell, results: Mapping[str, Found], recipe: Recipe, dense: Size) -> Found:
    """Return the numbers of a cell that is done, as plain data.

    Training is counted in multiply-accumulates: three forward passes per sample, a teacher's answer
    one more. What trains the pruned network counts no masked weights (nor does scratch-B's budget);
    a method that prunes while it trains is charged for the whole network at each of its steps,
    those with a mask too, since a run does not record how many weights each left. `own` is what
    the arm itself trains; `total` adds what it cannot do without: the unpruned network's training
    for all that begin from its weights or whose widths are read off them.

    Args:
        cell: The cell.
        results: What each of its stages found, by name.
        recipe: One that has these stages.
        dense: Size of the unpruned network.

    Returns:
        "metric" and its values "test" and "val"; "resolution", the step between such values
        of each split;
        "macs", "params" and "bytes"; under "own" and "total" epochs and MACs; and "made", how an
        equal-size network came about.
    """
    result = results[cell.stage]
    metric = next(m for m in ("mean_iou", "perplexity", "accuracy") if m in result)
    val = result.get("val") or {}
    small = _size(cell.arm, results, dense)
    taught = recipe.soft_targets is not None
    spent = {name: _spent(name, results, small, dense, taught) for name in results}
    alone = cell.arm in ("small_dense", "uniform") or (
        cell.arm in _FRESH and known_in_advance(recipe.method.build())
    )
    counted = [cell.stage] if alone else list(spent)
    if cell.arm == "transferred" and not alone:
        # Its own network's pruning gives it nothing but the size.
        counted = ["source-dense", "source-prune", cell.stage]
    total = {key: sum(spent[name][key] for name in counted) for key in ("epochs", "macs")}
    return {
        "metric": metric,
        "test": result[metric],
        "val": val.get(metric),
        "resolution": {"test": _resolution(metric, result), "val": _resolution(metric, val)},
        **small,
        "own": spent[cell.stage],
        "total": total,
        "made": result.get("made"),
    }


def timings(
    laid_out: Cells, done: Mapping[str, Done | None]
) -> tuple[dict[tuple[str, Target | None], float], str]:
    """Return how fast the networks run, and where that was measured.

    Returns:
        Method and size -> milliseconds of one inference, a median; ("", None) for the unpruned
        network, the mean of the medians beside each; none where nothing was timed. And a sentence.
    """
    found = {pair: done[key] for pair, key in laid_out.timings.items()}
    results = {pair: one.result for pair, one in found.items() if one is not None}
    if not results:
        return {}, ""
    ms = {pair: _median(result, "pruned") for pair, result in results.items()}
    first = next(iter(results.values()))
    whole = fmean(_median(result, "dense") for result in results.values())
    return {("", None): whole, **ms}, (
        f"Latency: median of one inference in float32 in {first['runtime']}, {first['threads']} "
        f"thread{'s' if first['threads'] > 1 else ''}, batch {first['batch']}, of the network of "
        "seed 0; arms with other widths are not timed."
    )


def _median(measured: Found, network: str) -> float:
    """Return a network's milliseconds in float32, which is the first of its precisions."""
    rows = (row for row in measured["delivered"] if row["network"] == network)
    return float(next(rows)["latency_ms"]["median"])


def known_in_advance(method: Method) -> bool:
    """Whether the widths that a method leaves are known before anything is trained.

    The paper calls such methods predefined: every layer loses a share that was given.
    """
    amounts = innermost(method.selector)
    return method.structured and isinstance(amounts, TopK) and amounts.scope == "layer"


def _resolution(metric: str, found: Found) -> float:
    """Return the step between values that a metric can have on as many samples as were tested."""
    return 1 / found["tested"] if metric == "accuracy" and "tested" in found else 0.0


def _size(arm: str, results: Mapping[str, Found], dense: Size) -> Size:
    """Return what an arm's network costs."""
    if arm == "unpruned":
        return dense
    if arm == "small_dense":
        return {"params": results[arm]["params"], **results[arm]["costs"]}
    return pruned_size(results[arm if arm in SHAPES else "prune"])


def _spent(
    stage: str, results: Mapping[str, Found], small: Size, dense: Size, taught: bool
) -> dict[str, float]:
    """Return the epochs and MACs that one stage trained for."""
    result = results[stage]
    if "samples" not in result:
        return {"epochs": 0.0, "macs": 0.0}
    kind = stage.removeprefix("source-")
    if kind != stage:
        dense = dense_size([results["source-prune"]])
    passes = STEP * (dense if kind in ("dense", "prune") else small)["macs"]
    if taught and kind in ("prune", "recover", "random"):
        passes += dense["macs"]
    return {"epochs": result["epochs"], "macs": float(result["samples"] * passes)}
