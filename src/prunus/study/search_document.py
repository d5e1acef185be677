"""The result of a search as plain data: trials, the best of them, and what is to be said."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prunus.study.search import COSTS, HIGHER, SearchRecipe, Tune
from prunus.study.trials import RIVALS, Outcome

Row = dict[str, Any]

_STATES = {
    "done": "trained to their end",
    "refused": "outside a limit before they were trained",
    "stopped": "stopped while they trained",
    "failed": "failed",
}
_SHARES = {"macs": "MACs", "params": "parameters", "bytes": "bytes"}


def document(
    search: SearchRecipe,
    ended: Sequence[Outcome],
    best: Mapping[int, Mapping[str, Any]],
    dense: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Gather a search.

    Args:
        search: Its recipe.
        ended: What came of its trials.
        best: Number of each trial that is best -> what was found on the test split.
        dense: Size and metric of the unpruned network, as far as known.
        environment: Where it was made.

    Returns:
        Plain data: "trials", each with its values, "val", costs and state; "front", the best of
        them by their cost, with "test" and the file of the recipe; and what they were made with.
    """
    tune = search.tune
    trials = [_row(number, one) for number, one in enumerate(ended)]
    by = tune.cost or "val"
    front = [
        {**trials[number], "test": found[tune.metric]}
        | {"recipe": f"front/{search.name}-trial-{number}.toml"}
        for number, found in best.items()
    ]
    return {
        "title": search.name,
        "metric": tune.metric,
        "objectives": list(tune.objectives),
        "limits": dict(tune.limits),
        "costs": [one for one in COSTS if any(one in row for row in trials)],
        "keys": list(ended[0].values) if ended else [],
        "dense": dict(dense),
        "summary": _summary(tune, ended, front),
        "front": sorted(front, key=lambda row: (row[by], row["number"])),
        "trials": trials,
        "notes": _notes(search, ended, front),
        "environment": environment,
        "recipe": {
            **search.recipe,
            "tune": tune.model_dump(mode="json", exclude_defaults=True),
        },
    }


def sentence(outcome: Outcome, tune: Tune) -> str:
    """Say what came of a trial: "accuracy 91.20 %, 0.43 of the MACs"."""
    parts = []
    if "val" in outcome.found:
        value = outcome.found["val"]
        shown = f"{value:.2%}" if tune.metric in HIGHER else f"{value:.2f}"
        parts.append(f"{tune.metric} {shown}")
    cost: str = tune.cost or next((one for one in tune.limits if one in COSTS), "macs")
    if cost in _SHARES and "share" in outcome.found:
        parts.append(f"{outcome.found['share'][cost]:.3g} of the {_SHARES[cost]}")
    elif cost in outcome.found:
        parts.append(f"{outcome.found[cost]:.3g} ms")
    if outcome.state != "done":
        parts.insert(0, outcome.state)
    return ", ".join(parts) + (f" ({outcome.why})" if outcome.why else "")


def _row(number: int, one: Outcome) -> Row:
    return {
        "number": number,
        "state": one.state,
        "values": dict(one.values),
        "within": all(excess <= 0 for excess in one.excess.values()),
        "why": one.why,
        **one.found,
    }


def _summary(tune: Tune, ended: Sequence[Outcome], front: Sequence[Row]) -> str:
    counts = Counter[str](one.state for one in ended)
    told = ", ".join(
        f"{counts[state]} {words}" for state, words in _STATES.items() if counts[state]
    )
    text = f"{len(ended)} trials: {told}." if ended else "No trial was begun in the time."
    if not front:
        return f"{text} None came to its end within the limits."
    if len(tune.objectives) == 1:
        numbers = " and ".join(str(row["number"]) for row in front)
        return f"{text} Best on the validation split: trial {numbers}."
    return (
        f"{text} {len(front)} of them are the Pareto front of {' and '.join(tune.objectives)} on "
        "the validation split."
    )


def _notes(search: SearchRecipe, ended: Sequence[Outcome], front: Sequence[Row]) -> list[str]:
    tune, notes = search.tune, []
    if front:
        notes.append(
            "the best were chosen by their validation values, which therefore flatter "
            "them; test values are looked at after the choice, and of no trial that was not "
            "among the best when a search ended"
        )
    if tune.stop and tune.uneven:
        notes.append(
            "no trial was stopped for falling behind, since length or batches of the fine-tuning "
            "are searched, so that trials are evaluated at unlike moments"
        )
    elif tune.stop and tune.cost == "latency_ms":
        notes.append(
            "no trial was stopped for falling behind, since its time is measured only at its end"
        )
    elif tune.stop and tune.cost:
        notes.append(
            "a trial is stopped where its metric falls behind the median, at the same evaluation, "
            f"of {RIVALS} or more that cost no more (Optuna itself stops none where there are "
            "several objectives); those that prune while they train know their cost only at the end"
        )
    if "latency_ms" in tune.named:
        notes.append(
            "each trial was timed at its end, beside the unpruned network and not beside other "
            "trials: time the best against each other, with prunus bench, before you choose by ms"
        )
    if tune.searches(["train.length", "finetune.length"]):
        notes.append("trials train for different lengths")
    failed = next((one for one in ended if one.state == "failed"), None)
    if failed is not None:
        notes.append(f"the first that failed: {failed.why}")
    notes.append(
        f"every trial has the seed {search.base.seed}, so the spread over seeds is not known"
    )
    return notes
