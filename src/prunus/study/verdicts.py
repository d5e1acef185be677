"""What a study's comparisons say, in sentences that name no winner inside the noise."""

from collections.abc import Mapping, Sequence
from typing import Any

from prunus.study.statistics import LEVEL

_SIZES = {
    "macs": "{:g} of the MACs",
    "params": "{:g} of the parameters",
    "bytes": "{:g} of the bytes",
    "sparsity": "a sparsity of {:g}",
    "density": "a density of {:g}",
}
_UNITS = {"accuracy": 100, "mean_iou": 100, "perplexity": 1}


def size(target: Mapping[str, Any] | None) -> str:
    """Name a target, such as "0.5 of the MACs"."""
    if target is None:
        return "its own size"
    return _SIZES[target["metric"]].format(target["value"])


def apart(found: Mapping[str, Any]) -> bool:
    """Whether a comparison is told apart from none, all of its family considered."""
    return found["p_holm"] is not None and found["p_holm"] < 1 - LEVEL


def amount(found: Mapping[str, Any], metric: str) -> str:
    """Write a difference without its sign, such as "0.4 ± 0.2 points"."""
    scale = _UNITS[metric]
    value = abs(found["mean"]) * scale
    margin = "" if found["margin"] is None else f" ± {_two_digits(found['margin'] * scale)}"
    points = "points" if scale == 100 else "of perplexity"
    return f"{value:.2f}{margin} {points}"


def sentence(subject: str, found: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Say how a subject compares with each of several others.

    Args:
        subject: Such as "at 0.5 of the MACs, fine-tuned l1_filter".
        found: Comparisons, each with "other" (its name), "mean" (subject - other), "margin",
            "p_holm" and "seeds", over how many.
        metric: What was measured; a lower perplexity is better.
    """
    if not found:
        return ""
    if all(one["seeds"] == 1 for one in found):
        parts = [f"{amount(one, metric)} {_side(one)} {one['other']}" for one in found]
        return f"{subject} is {_joined(parts)}: one seed, which tells nothing of chance."
    parts = [f"{amount(one, metric)} {_side(one)} {one['other']}" for one in found if apart(one)]
    clauses = [f"is {_joined(parts)}"] if parts else []
    same: dict[int, list[str]] = {}  # by seeds: where a network failed there are fewer
    for one in found:
        if not apart(one):
            same.setdefault(one["seeds"], []).append(f"{one['other']} ({_signed(one, metric)})")
    if same:
        told = [
            f"{_joined(others, 'or')} with {seeds} seed{'s' * (seeds > 1)}"
            for seeds, others in same.items()
        ]
        clauses.append(f"cannot be told apart from {', or from '.join(told)}")
    return f"{subject} {'; it '.join(clauses)}."


def _two_digits(margin: float) -> str:
    return f"{margin:.0f}" if margin >= 9.95 else f"{margin:.2g}"


def _side(found: Mapping[str, Any]) -> str:
    return "above" if found["mean"] > 0 else "below" if found["mean"] < 0 else "from"


def _signed(found: Mapping[str, Any], metric: str) -> str:
    number = amount(found, metric).partition(" p")[0].partition(" of")[0]
    return f"{'-' if found['mean'] < 0 else '+'}{number}"


def _joined(parts: Sequence[str], last: str = "and") -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"
