"""Which networks can be exported as ONNX once they are pruned.

Every network of the zoos of coverage.py gets random weights, loses half of its units and is
exported with an open batch, or else with a fixed one; in ONNX Runtime the file must give what
PyTorch gives, within 1e-4 of the output's scale, for two batch sizes. Rows are kept as they come,
so that an interrupted run goes on where it stopped. Needs timm and transformers; nothing is
downloaded.

    python benchmarks/onnx_coverage.py --zoo timm --only 'test_*' --workers 2
    python benchmarks/onnx_coverage.py --write docs/onnx.md
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from coverage import Row, escaped, fill, grid, prepare, show
from zoos import ZOOS
from zoos.exporting import main as main_of_child

from prunus.run.document import environment

STATUSES = ("exported", "fixed batch", "not exported", "not pruned", "crash", "timeout")
SUMMARY = ("zoo", "tried", *STATUSES)
PACKAGES = ("torch", "onnxscript", "onnxruntime", "torchvision", "timm", "transformers")


def summary(rows: Iterable[Row]) -> Iterator[tuple[str, ...]]:
    """Yield one line per zoo."""
    zoos: dict[str, list[str]] = {}
    for row in rows:
        zoos.setdefault(row["zoo"], []).append(row["status"])
    for zoo, statuses in zoos.items():
        counts = Counter(statuses)
        yield zoo, str(len(statuses)), *(str(counts[status]) for status in STATUSES)


def shortcomings(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a sentence for each network that has no file for any batch size."""
    for row in rows:
        if row["status"] != "exported":
            reason = row.get("fixed") or row.get("error", "")
            yield f"{row['zoo']} {row['name']}: {row['status']}: {reason}"


def markdown(rows: Sequence[Row], asked: int) -> str:
    """Return the page: where and when, the summary, and what fell short."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# ONNX",
        "",
        f"{datetime.now(UTC).date()}, {packages}, {environment()['cpu']}.",
        "Made by `python benchmarks/onnx_coverage.py`: random weights, half of the units removed.",
        f"Of {asked} networks, {len(rows)} have been tried; rows were made at "
        f"{', '.join(dict.fromkeys(row['commit'] for row in rows))}.",
        "",
        *grid(SUMMARY, summary(rows)),
        "",
        *(f"- {escaped(line)}" for line in shortcomings(rows)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main(options: argparse.Namespace) -> None:
    """Make the missing rows, and print and write the table."""
    console, wanted = prepare(options)
    rows = list(fill(wanted, options, console, main_of_child).values())
    for line in shortcomings(rows):
        console.print(line, markup=False, highlight=False)
    show(console, "ONNX", SUMMARY, summary(rows))
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(markdown(rows, len(wanted)), encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--zoo", nargs="+", choices=ZOOS, default=ZOOS)
    parser.add_argument("--only", nargs="+", default=["*"], help="shell patterns of names")
    parser.add_argument("--ratio", nargs="+", type=float, default=[0.5])
    parser.add_argument("--known", action="store_true", help="make no further rows")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=900, help="seconds per network")
    parser.add_argument("--rows", type=Path, default=Path("docs/onnx.jsonl"), help="all rows")
    parser.add_argument("--out", type=Path, default=Path("build/onnx"), help="logs")
    parser.add_argument("--fresh", action="store_true", help="make rows that exist again")
    parser.add_argument("--write", type=Path, help="write the page to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
