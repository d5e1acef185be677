"""One sentence for a result: what was asked, what was reached, proved or not, faster or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prunus.report.quantities import milliseconds, percent, times
from prunus.report.table import dense_arm, pruned_arm, with_interval

Mark = Literal["good", "bad", "open"]

_MARGIN = 0.005  # of what was asked: half a per cent is rounding, not a target missed
_MARGIN_OF_TIME = 0.05  # which is measured, and met within this

_FRACTIONS = {
    "macs": ("keep", "the MACs"),
    "params": ("keep", "the parameters"),
    "bytes": ("keep", "the bytes"),
    "density": ("keep", "the prunable units"),
    "sparsity": ("remove", "the prunable units"),
}


@dataclass(frozen=True)
class Verdict:
    """A part of the sentence and its short form; `mark` says as hoped, not as hoped, or unknown."""

    mark: Mark
    label: str
    text: str


@dataclass(frozen=True)
class Aim:
    """A target beside what was reached, in words; `asked` and `reached` are shares for a bar."""

    what: str
    asked_text: str
    reached_text: str
    met: bool
    asked: float | None = None
    reached: float | None = None


def aim(target: Mapping[str, Any] | None) -> Aim | None:
    """Set what was asked beside what was reached; None where either is unknown."""
    target = target or {}
    metric, asked, reached = (target.get(key) for key in ("metric", "asked", "reached"))
    if metric is None or asked is None or reached is None:
        return None
    at_least = metric in ("sparsity", "speedup")
    timed = metric in ("speedup", "latency_ms")
    slack = (_MARGIN_OF_TIME if timed else _MARGIN) * asked
    met = reached >= asked - slack if at_least else reached <= asked + slack
    if metric in _FRACTIONS:
        verb, whole = _FRACTIONS[metric]
        what = f"{verb} {percent(asked)} of {whole}"
        return Aim(what, percent(asked), percent(reached), met, asked, reached)
    if metric == "latency_ms":
        what = f"run in {milliseconds(asked)}"
        return Aim(what, milliseconds(asked), milliseconds(reached), met)
    if metric == "speedup":
        return Aim(f"run {times(asked)} as fast", times(asked), times(reached), met)
    return Aim(f"{metric} {asked:g}", f"{asked:g}", f"{reached:g}", met)


def headline(result: Mapping[str, Any]) -> str:
    """Write the sentence; what is unknown is said to be unknown."""
    parts = [verdict.text for verdict in (reached(result), equality(result), speed(result))]
    sentence = "; ".join([*parts, *_accuracy(result)])
    return f"{sentence[0].upper()}{sentence[1:]}."


def reached(result: Mapping[str, Any]) -> Verdict:
    """Whether the target was met."""
    asked = aim(result.get("target"))
    if asked is None:
        return Verdict("open", "no target", "no target was recorded")
    text = f"asked to {asked.what}, reached {asked.reached_text}"
    return (
        Verdict("good", "target met", text) if asked.met else Verdict("bad", "target missed", text)
    )


def equality(result: Mapping[str, Any]) -> Verdict:
    """Whether the small network was proved to compute what the masked one did."""
    passed = (result.get("verification") or {}).get("passed")
    if passed is None:
        return Verdict(
            "open", "equality not checked", "equality with the masked network was not checked"
        )
    if passed:
        return Verdict("good", "equality proved", "proved equal to the masked network")
    return Verdict("bad", "not equal", "not equal to the masked network")


def speed(result: Mapping[str, Any]) -> Verdict:
    """Whether the first pruned arm is faster than the dense one, beyond the interval."""
    arm, dense = pruned_arm(result), dense_arm(result)
    if arm.get("speedup") is None:
        return Verdict("open", "speed not measured", "speed was not measured")
    ratio, low, high = with_interval(arm["speedup"])
    if low is None or high is None:
        low, high = _bounds(arm.get("latency_ms"), dense.get("latency_ms"), ratio)
    if low > 1:
        return Verdict("good", "faster", f"{times(ratio)} as fast as the dense network")
    if high < 1:
        return Verdict("bad", "slower", f"slower than the dense network ({times(ratio)})")
    return Verdict(
        "bad", "no faster", f"no faster than the dense network ({times(ratio)}, within the noise)"
    )


def _bounds(arm: Any, dense: Any, ratio: float) -> tuple[float, float]:
    """Bounds of a speed-up from the intervals of the two latencies, else the ratio itself."""
    arm, dense = arm or {}, dense or {}
    ends = [dense.get("low"), arm.get("high"), dense.get("high"), arm.get("low")]
    if not all(ends):
        return ratio, ratio
    return ends[0] / ends[1], ends[2] / ends[3]


def _accuracy(result: Mapping[str, Any]) -> list[str]:
    before, after = (arm.get("accuracy") for arm in (dense_arm(result), pruned_arm(result)))
    if after is None:
        return []
    compared = "" if before is None else f" against {percent(before, 2)} before"
    return [f"accuracy {percent(after, 2)}{compared}"]
