"""Which comparisons a study makes, and the sentences that come of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from prunus.study.arms import ARMS
from prunus.study.statistics import difference, holm
from prunus.study.verdicts import apart, sentence, size

Row = dict[str, Any]
_BY_SEED = dict[int, Row]
_SHAPES = ("scratch_e", "guided", "transferred")


def comparisons(cells: Sequence[Row], metric: str) -> list[Row]:
    """Compare on the test split, seed by seed, in four families.

    "control": fine-tuned with every control of the same method and size. "method": at each size the
    method that is best on the validation split with the others. "unpruned": fine-tuned with the
    unpruned network. "shape": the method's own widths, and those designed after them, with uniform
    ones of equal cost, all trained from scratch. Holm's correction is over each family; where arms
    are one and the same network in every seed, such as an ordinary network of this size where a
    method leaves no other widths, comparing with them is one comparison.

    Args:
        cells: The cells of a study as plain data.
        metric: What was measured.

    Returns:
        One per comparison: what is compared, the mean of the paired differences with its margin,
        p, and p_holm. Of one seed, the difference alone.
    """
    arms: dict[tuple[Any, ...], _BY_SEED] = defaultdict(dict)
    for cell in cells:
        if "test" in cell:
            target = cell["target"] and tuple(cell["target"].values())
            arms[cell["method"], target, cell["arm"]][cell["seed"]] = cell
    tuned = {(m, t): found for (m, t, arm), found in arms.items() if arm == "fine_tuned"}
    families = ("control", "method", "unpruned", "shape")
    pairs: dict[str, list[tuple[Any, Row]]] = {family: [] for family in families}

    def add(family: str, ours: _BY_SEED, theirs: _BY_SEED, other: str) -> None:
        if found := _compared(ours, theirs):
            one = next(iter(ours.values()))
            row = {key: one[key] for key in ("method", "target", "arm")}
            row |= {"family": family, "other": other, **found}
            pairs[family].append(((_networks(ours), _networks(theirs)), row))

    for (method, target), ours in tuned.items():
        for arm, about in ARMS.items():
            if (about.control or arm == "distilled") and (method, target, arm) in arms:
                add("control", ours, arms[method, target, arm], about.title)
        add("unpruned", ours, arms["", None, "unpruned"], ARMS["unpruned"].title)
    for (method, target, arm), ours in arms.items():
        uniform = arms.get((method, target, "uniform"))
        if uniform and arm in _SHAPES:
            add("shape", ours, uniform, ARMS["uniform"].title)
    for target in dict.fromkeys(target for _, target in tuned):
        rivals = {m: found for (m, t), found in tuned.items() if t == target}
        best = chosen(rivals, metric)
        for method, theirs in rivals.items():
            if best is not None and method != best:
                add("method", rivals[best], theirs, method)
    for family in pairs.values():
        known = {networks: one["p"] for networks, one in family if one["p"] is not None}
        adjusted = dict(zip(known, holm([*known.values()]), strict=True))
        for networks, one in family:
            one["p_holm"] = adjusted.get(networks)
    return [one for family in pairs.values() for _, one in family]


def chosen(rivals: Mapping[str, _BY_SEED], metric: str) -> str | None:
    """Return the method that is best on the validation split; None where it is not known."""
    sign = -1 if metric == "perplexity" else 1
    quality: dict[str, float] = {}
    for method, found in rivals.items():
        given = [cell["val"] for cell in found.values() if cell["val"] is not None]
        if not given:
            return None
        quality[method] = sign * sum(given) / len(given)
    return max(quality, key=lambda method: quality[method], default=None)


def _networks(found: _BY_SEED) -> tuple[Any, ...]:
    """Return what tells an arm's networks from others."""
    return tuple((seed, found[seed]["weights"]) for seed in sorted(found))


def _compared(ours: _BY_SEED, theirs: _BY_SEED) -> Row | None:
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    found, p = difference(
        [ours[seed]["test"] for seed in seeds],
        [theirs[seed]["test"] for seed in seeds],
        ours[seeds[0]]["resolution"]["test"],
    )
    margin = {"mean": found.mean, "margin": found.margin, "sd": found.sd}
    return {**margin, "seeds": len(seeds), "p": p, "p_holm": None}


def verdicts(compared: Sequence[Row], metric: str, seeds: int) -> dict[str, Any]:
    """Say what the comparisons say.

    Returns:
        "summary", sentences for the whole study; and "each", per method and size one sentence of
        the unpruned network and the controls.
    """
    by_family: dict[str, dict[tuple[str, str], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for one in compared:
        by_family[one["family"]][one["method"], str(one["target"])].append(one)

    def told(found: Sequence[Row], subject: str) -> str:
        where = f"At {size(found[0]['target'])}, "
        return sentence(where + subject, found, metric)

    each, summary = [], []
    for pair, whole in by_family["unpruned"].items():
        found = [*whole, *by_family["control"][pair]]
        text = told(found, f"fine-tuned {pair[0]}")
        each.append({"method": pair[0], "target": found[0]["target"], "text": text})
    for row in chain.from_iterable(by_family["shape"].values()):
        text = told([row], f"{ARMS[row['arm']].title} {row['method']}")
        each.append({"method": row["method"], "target": row["target"], "text": text})
    for (method, _), found in by_family["method"].items():
        summary.append(
            told(found, f"{method} is best on the validation split; on the test split it")
        )
    scratch = [
        one for one in compared if one["family"] == "control" and one["other"].startswith("scratch")
    ]
    if scratch and seeds > 1:
        summary.insert(0, _against_scratch(scratch, metric))
    return {"summary": summary, "each": each}


def _against_scratch(found: Sequence[Row], metric: str) -> str:
    sign = -1 if metric == "perplexity" else 1
    told = [sign * one["mean"] for one in found if apart(one)]
    better = sum(value > 0 for value in told)
    worse = len(told) - better
    return (
        f"Of {len(found)} comparisons of fine-tuning with training the small network from scratch, "
        f"fine-tuning is better in {better}, worse in {worse}, and cannot be told apart in "
        f"{len(found) - len(told)}."
    )
