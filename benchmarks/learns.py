"""Whether each method learns something: it against random pruning, on real images.

What is compared is in `against_random.py`; one row for each method and seed. Rows are kept as they
come, so that an interrupted run goes on where it stopped.

    python benchmarks/learns.py --only 'l1*' taylor
    python benchmarks/learns.py --write docs/learns.md
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean, stdev

import torch
from against_random import (
    CHOICE,
    CLAIMS,
    FROM_THE_START,
    NOT_BETTER,
    RECOVERY,
    SEEDS,
    STEPS,
    Pair,
    Row,
    claim_of,
    compare,
    gain,
    made_of,
)

import prunus
from prunus.methods import METHODS
from prunus.run.document import environment
from prunus.study.statistics import mean as over_seeds

HEADINGS = (
    *("method", "left", "s", "method, at once", "random", "difference"),
    *("method, recovered", "random", "difference", "same share", "from the start"),
)


def read(file: Path) -> dict[tuple[str, int], Row]:
    """Return the rows on disk that were made as they would be now; half a last line is dropped."""
    rows = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row["method"] in METHODS and row["made of"] == made_of(row["method"]):
            rows[row["method"], row["seed"]] = row
    return rows


def fill(options: argparse.Namespace) -> dict[tuple[str, int], Row]:
    """Make the rows that are missing and return all."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = read(options.out)
    for seed in SEEDS:
        for name in METHODS:
            wanted = any(fnmatchcase(name, pattern) for pattern in options.only)
            if not wanted or (name, seed) in rows:
                continue
            row = rows[name, seed] = compare(name, seed)
            with options.out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
            print(name, seed, brief(row["own"]), "random", brief(row["random"]), flush=True)
    return rows


def brief(pair: Pair) -> str:
    return ", ".join(f"{share:.1%}" for share in pair)


def line(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return one line of the table."""
    cost = "macs" if rows[0]["units"] == "filters" else "density"
    cells = [f"`{name}`", f"{mean(row[cost] for row in rows):.0%}"]
    cells.append(f"{mean(row['seconds'] for row in rows):.0f}")
    for moment in (0, 1):
        for arm in ("own", "random"):
            cells.append(spread([row[arm][moment] for row in rows]))
        cells.append(spread([row["own"][moment] - row["random"][moment] for row in rows], "+"))
    for arm in ("even", "from the start"):
        cells.append(spread([row[arm][1] for row in rows]) if arm in rows[0] else "")
    return tuple(cells)


def spread(values: Sequence[float], sign: str = "") -> str:
    return f"{100 * mean(values):{sign}.1f} ± {100 * stdev(values):.1f}"


def markdown(rows: dict[tuple[str, int], Row]) -> str:
    """Return the page: where and when, how it was done, the tables, and what fell short."""
    here = environment()
    by_method = {name: [rows[name, seed] for seed in SEEDS] for name in METHODS}
    pairs = [row["dense"] for row in by_method["magnitude"]]
    total = sum(row.get("total seconds", row["seconds"]) for row in rows.values()) / 60
    lines = [
        "# Against random pruning",
        "",
        f"{datetime.now(UTC).date()}, prunus {prunus.__version__}, torch {torch.__version__}, "
        f"{here['cpu']}, one thread; {total:.0f} minutes of processor time.",
        "Made by `python benchmarks/learns.py`; what is compared is in "
        "`benchmarks/against_random.py`.",
        "",
        f"A network of three convolutions (32, 64 and 64 filters, with batch norm) learns 7,000 of "
        f"the embedded Fashion-MNIST images for {STEPS} steps of 64, and reaches "
        f"{spread([pair[0] for pair in pairs])} % of 2,000 test images "
        f"({spread([pair[1] for pair in pairs])} after {RECOVERY} further steps). "
        "Mean ± standard deviation over seeds 0, 1 and 2, in points; a difference is paired, seed "
        "by seed.",
        "",
        f"- **At once**: when the choice is final, at step {STEPS}. **Recovered**: {RECOVERY} "
        "steps later, with the mask held and the same settings for all.",
        "- **Random**: as many units in each layer, but whichever chance takes, chosen when the "
        "method's own choice is final, in a network trained as long; three draws for each seed. "
        "For methods that are sparse from the first step on, random is so too (one draw).",
        "- **Same share**: random pruning proper, recovered: the same cost, the same share of "
        "every layer. **From the start**: that, when the mask holds from the first step of "
        "training on. It has ten times as many steps with its mask and is no equal budget, but "
        "says what pruning a trained network is worth here at all.",
        "- **Left**: MACs for filters, weights for weights. **s**: processor seconds of the method "
        "with its training and recovery, without the dense network's where it is shared.",
    ]
    for units, title in (("filters", "Filters"), ("weights", "Single weights")):
        chosen = {n: found for n, found in by_method.items() if found[0]["units"] == units}
        lines += ["", f"## {title}", "", *grid(line(n, found) for n, found in chosen.items())]
    lines += ["", "## What is claimed, and what is not", "", *verdicts(by_method)]
    return "\n".join(lines) + "\n"


def verdicts(by_method: dict[str, list[Row]]) -> Iterator[str]:
    """Yield for each claim the methods that are better in every seed, then those that are not."""
    for claim in CLAIMS:
        good = [n for n in METHODS if claim_of(n) is claim and n not in NOT_BETTER]
        worst = min(min(map(gain, by_method[n])) for n in good)
        yield (
            f"- Better {claim.text}, in each of the three seeds, by {100 * worst:.1f} points or "
            f"more: {', '.join(f'`{name}`' for name in good)}."
        )
    for name, reason in NOT_BETTER.items():
        found = spread([gain(row) for row in by_method[name]], "+")
        yield f"- Not better {claim_of(name).text}: `{name}` ({found}). {reason}"
    yield layer_by_layer(by_method)
    for name, found in by_method.items():
        later = [row["own"][1] - row["random"][1] for row in found]
        if claim_of(name) is CHOICE and mean(later) <= 0:
            lost = spread(later, "+")
            yield f"- `{name}`, better at once, is not after the recovery ({lost})."


def layer_by_layer(by_method: dict[str, list[Row]]) -> str:
    """Say what methods sparse from the start gain over chance with their own numbers by layer."""
    gains = {
        name: [row["own"][1] - row["random"][1] for row in found]
        for name, found in by_method.items()
        if claim_of(name) is FROM_THE_START
    }
    told = ", ".join(f"`{name}` ({spread(found, '+')})" for name, found in gains.items())
    apart = ", ".join(f"`{name}`" for name, found in gains.items() if not holds_zero(found))
    return (
        "- Those held as long are above judged against the same share everywhere. Against as many "
        'random weights in each layer as the method has there (the column "random"), after the '
        f"recovery: {told}. A 95 % t interval of three seeds leaves out zero for {apart}; of "
        "the others three seeds cannot tell that it matters which weights of a layer they keep."
    )


def holds_zero(values: Sequence[float]) -> bool:
    """Whether the 95 % t interval of the mean of differences holds zero."""
    found = over_seeds(values)
    return found.margin is None or abs(found.mean) <= found.margin


def grid(lines: Iterator[tuple[str, ...]]) -> Iterator[str]:
    for cells in (HEADINGS, ["---"] * len(HEADINGS), *lines):
        yield f"| {' | '.join(cells)} |"


def main(options: argparse.Namespace) -> None:
    """Make the missing rows and write the page."""
    torch.set_num_threads(1)
    rows = fill(options)
    if options.write:
        options.write.write_text(markdown(rows), encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=["*"], help="shell patterns of names")
    parser.add_argument("--out", type=Path, default=Path("build/learns.jsonl"), help="the rows")
    parser.add_argument("--write", type=Path, help="a page of all rows, such as docs/learns.md")
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
