"""Which networks Prunus prunes, whether the result is right, and how much goes.

Every network of the zoos (torchvision, timm, transformers, and the hand-made ones of the tests)
gets random weights and is pruned with coupled L1-norm filters, at each ratio in a process of its
own; see `zoos/examine.py` for what is checked. Rows are kept as they come, with the commit that
made them, so that an interrupted run goes on where it stopped; all take some hours on two cores.
Needs timm and transformers; nothing is downloaded.

    python benchmarks/coverage.py --zoo timm --only 'vit*' --ratio 0.5 --workers 2
    python benchmarks/coverage.py --write docs/coverage.md
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from zoos import ZOOS, alone, networks
from zoos.examine import main as main_of_child

import prunus
from prunus.run.document import environment

Key: TypeAlias = tuple[str, str, float]
"""Zoo, network, ratio."""

Row: TypeAlias = dict[str, Any]

SERVER = multiprocessing.get_context("forkserver")
"""Imports everything once; each network is tried in a copy of it."""

GOAL = 0.3
"""Share of the parameters that should be gone."""

PACKAGES = ("torch", "torchvision", "timm", "transformers")
PRELOADED = [
    *("zoos.examine", "zoos.torchvision_zoo", "zoos.timm_zoo", "zoos.huggingface_zoo", "handmade"),
    *("scipy.optimize", "transformers.modeling_utils"),  # what is otherwise imported late
]
SUMMARY = (
    *("zoo", "ratio", "tried", "preserved", "wrong", "refused", "of these with exact=False"),
    *("crash or timeout", "trained"),
    *("pruned twice", f">= {GOAL:.0%} gone", "median s"),
)
DETAILS = (
    *("zoo", "network", "ratio", "status", "parameters", "of them left", "MACs left", "form"),
    *("groups", "trained", "pruned twice", "trace s", "prune s", "GB"),
)


@dataclass
class Job:
    """One row in the making.

    Args:
        key: What is tried.
        folder: Where its files are.
        memory: Bytes that it may take.
        child: What the process runs; see `zoos.examine.main`.
    """

    key: Key
    folder: Path
    memory: int
    child: Callable[..., None] = main_of_child
    begin: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        zoo, name, ratio = self.key
        self.file = self.folder / f"{zoo}-{name}-{ratio:g}.json"
        self.log = self.file.with_suffix(".log")
        self.file.unlink(missing_ok=True)
        arguments = (zoo, name, str(ratio), str(self.file), str(self.memory), str(self.log))
        self.process = SERVER.Process(target=self.child, args=arguments)
        self.process.start()

    def finished(self, timeout: float) -> Row | None:
        """Return the row once the process has ended, by itself or by the time limit."""
        seconds = time.monotonic() - self.begin
        late = self.process.is_alive() and seconds > timeout
        if late:
            self.stop()
        if self.process.is_alive():
            return None
        status = self.process.exitcode
        row: Row = dict(zip(("zoo", "name", "ratio"), self.key, strict=True))
        row |= {"seconds": round(seconds, 1), "stage": "start", "commit": commit()}
        if self.file.is_file():
            row |= json.loads(self.file.read_text(encoding="utf-8"))
        if row["stage"] != "done" and (late or status):
            end = f"{timeout:g} s passed" if late else f"exit status {status}"
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            what = f"{end} in stage {row['stage']}. {'' if late else ' '.join(last[-1:])}".strip()
            if "status" not in row:
                row |= {"status": "timeout" if late else "crash", "error": what}
            row |= {k: what for k in ("second", "trained") if k not in row and "form" in row}
        if row["stage"] == "done" or not self.log.stat().st_size:
            self.log.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)
        return row

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


@cache
def commit() -> str:
    """Return the commit that is tried, with a plus where its code differs; the rows may grow."""

    def git(*asked: str) -> subprocess.CompletedProcess[str]:
        here = Path(__file__).parent.parent
        return subprocess.run(("git", *asked), capture_output=True, text=True, cwd=here)

    found = git("rev-parse", "--short", "HEAD").stdout.strip()
    changed = git("diff", "--quiet", "HEAD", "--", "src", "tests", "benchmarks").returncode
    return f"{found}{'+' if changed else ''}" if found else "unknown"


def run(
    jobs: Iterable[Key], workers: int, timeout: float, folder: Path, child: Callable[..., None]
) -> Iterator[Row]:
    """Yield rows as they are finished."""
    share = int(0.8 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / workers)
    waiting, running = iter(jobs), list[Job]()
    try:
        while True:
            while len(running) < workers and (key := next(waiting, None)) is not None:
                running.append(Job(key, folder, share, child))
            if not running:
                return
            for job in list(running):
                if (row := job.finished(timeout)) is not None:
                    running.remove(job)
                    yield row
            time.sleep(0.05)
    finally:
        for job in running:
            job.stop()


def read(file: Path) -> dict[Key, Row]:
    """Return the rows on disk, the latest of each kind; a last line cut short is dropped."""
    rows = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["zoo"], row["name"], row["ratio"]] = row
    return rows


def fill(
    wanted: Sequence[Key],
    options: argparse.Namespace,
    console: Console,
    child: Callable[..., None] = main_of_child,
) -> dict[Key, Row]:
    """Make the rows that are missing and return all that are wanted."""
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.rows
    known = read(file)
    if options.fresh:
        known = {key: row for key, row in known.items() if key not in set(wanted)}
        file.write_text("".join(json.dumps(row) + "\n" for row in known.values()), encoding="utf-8")
    missing = [key for key in wanted if key not in known and not options.known]
    heavy = [key for key in missing if key[1] in alone(key[0])]
    light = [key for key in missing if key not in heavy]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
        file.open("a", encoding="utf-8") as lines,
    ):
        task = progress.add_task("networks", total=len(missing))
        for jobs, workers in ((light, options.workers), (heavy, 1)):
            for row in run(jobs, workers, options.timeout, options.out, child):
                lines.write(json.dumps(row) + "\n")
                lines.flush()
                known[row["zoo"], row["name"], row["ratio"]] = row
                progress.console.print(
                    f"{row['zoo']} {row['name']} {row['ratio']:g}: {row['status']}",
                    f"{percent(row, 'params_ratio')} {row.get('error') or ''}",
                    markup=False,
                    no_wrap=True,
                    overflow="ellipsis",
                    highlight=False,
                )
                progress.advance(task)
    return {key: known[key] for key in wanted if key in known}


def large(row: Row) -> bool:
    return bool(row["status"] == "preserved" and row["params_ratio"] <= 1 - GOAL)


def summary(rows: Iterable[Row]) -> Iterator[tuple[str, ...]]:
    """Yield one line per zoo and ratio."""
    kinds: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row["zoo"], row["ratio"]), []).append(row)
    for (zoo, ratio), found in kinds.items():
        statuses = [row["status"] for row in found]
        counts = (
            len(found),
            *(statuses.count(status) for status in ("preserved", "wrong", "refused")),
            sum("remaining" in row for row in found),
            statuses.count("crash") + statuses.count("timeout"),
            sum(row.get("trained") == "yes" for row in found),
            sum(row.get("second") == "preserved" for row in found),
            sum(map(large, found)),
        )
        middle = statistics.median(row["seconds"] for row in found)
        yield zoo, f"{ratio:g}", *map(str, counts), f"{middle:.0f}"


def details(rows: Iterable[Row]) -> Iterator[tuple[str, ...]]:
    """Yield one line per network and ratio."""
    for row in rows:
        yield (
            *(row["zoo"], row["name"], f"{row['ratio']:g}", row["status"]),
            f"{row['params']:,}" if "params" in row else "",
            *(percent(row, "params_ratio"), percent(row, "macs_ratio"), row.get("form", "")),
            str(row.get("groups", "")),
            verdict(row.get("trained"), "yes"),
            verdict(row.get("second"), "preserved"),
            *(f"{row[k]:.1f}" if k in row else "" for k in ("trace_s", "prune_s", "peak_gb")),
        )


def percent(row: Row, name: str) -> str:
    return f"{row[name]:.0%}" if name in row else ""


def verdict(found: str | None, good: str) -> str:
    return "" if found is None else "yes" if found == good else "no"


def shortcomings(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a sentence for each network that fell short, with the reason as far as it is known."""
    for row in rows:
        parts = []
        frozen = (f"{n} channels: {reason}" for reason, n in row.get("frozen", {}).items())
        if row["status"] != "preserved":
            parts.append(f"{row['status']}: {row['error']}")
            if "remaining" in row:
                parts.append(
                    f"exact=False leaves {percent(row, 'remaining')} of the parameters, by Prunus' "
                    "own proof"
                )
        elif not large(row):
            parts.append(f"{percent(row, 'params_ratio')} of the parameters left")
            parts.append(f"frozen: {', '.join(frozen) or 'nothing'}")
        if (alive := row.get("alive")) is not None and alive < 1e-4:
            parts.append("the outputs hardly follow the input, so their equality says little")
        elif row.get("effect", 1) < 1e-6:
            parts.append("the outputs are those of the original, so their equality says little")
        if row.get("second", "preserved") != "preserved":
            parts.append(f"second pruning: {row['second']}")
        if row.get("trained", "yes") != "yes":
            parts.append(f"training: {row['trained']}")
        if parts and row.get("unknown"):
            parts.append(f"no rule for {', '.join(row['unknown'])}")
        if parts:
            yield f"{row['zoo']} {row['name']} at {row['ratio']:g}: {'; '.join(parts)}"


def markdown(rows: Sequence[Row], zoos: Sequence[str]) -> str:
    """Return the page: where and when, the summary, every network, and what fell short."""
    here = environment()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# Coverage",
        "",
        f"{datetime.now(UTC).date()}, prunus {prunus.__version__}, {packages}, {here['cpu']}.",
        "Made by `python benchmarks/coverage.py`: random weights, coupled L1-norm filters; a ratio",
        "is the share of units removed. Outputs are compared with those of the masked original, in",
        "float64 where it runs in it, by code and on an input that Prunus does not know.",
        f"Rows are of the commits {', '.join(dict.fromkeys(row['commit'] for row in rows))}.",
        "",
        *grid(SUMMARY, summary(rows)),
        "",
        *notes(zoos),
        "## Every network",
        "",
        *grid(DETAILS, details(rows)),
        "",
        f"## Not preserved, less than {GOAL:.0%} gone, or not to be trained or pruned again",
        "",
        *(f"- {escaped(line)}" for line in shortcomings(rows)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def notes(zoos: Sequence[str]) -> Iterator[str]:
    """Yield which module files of timm no network of the zoo comes from."""
    if "timm" in zoos:
        from zoos.timm_zoo import modules, uncovered

        left = ", ".join(sorted(uncovered())) or "none"
        yield f"Module files of timm: {len(modules())}; without a network here: {left}."
        yield ""


def grid(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    for line in (headings, ["---"] * len(headings), *lines):
        yield f"| {' | '.join(map(escaped, line))} |"


def escaped(line: str) -> str:
    return line.replace("|", "\\|").replace("<", "&lt;")


def show(console: Console, title: str, headings: Sequence[str], lines: Iterable[Any]) -> None:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for line in lines:
        table.add_row(*line)
    console.print(table, markup=False)


def prepare(options: argparse.Namespace) -> tuple[Console, list[Key]]:
    """Set up the server, and return where to print and which rows are wanted."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    console = Console(width=None if sys.stdout.isatty() else 190)
    wanted = [
        (zoo, name, ratio)
        for zoo in options.zoo
        for name in networks(zoo)
        if any(fnmatchcase(name, pattern) for pattern in options.only)
        for ratio in options.ratio
    ]
    # the server takes no sys.path over, and what it cannot import it leaves out without a word
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    SERVER.set_forkserver_preload(PRELOADED)
    return console, wanted


def main(options: argparse.Namespace) -> None:
    """Make the missing rows, and print and write the tables."""
    console, wanted = prepare(options)
    rows = list(fill(wanted, options, console).values())
    show(console, "networks", DETAILS, details(rows))
    for line in shortcomings(rows):
        console.print(line, markup=False, highlight=False)
    show(console, "coverage", SUMMARY, summary(rows))
    for line in notes(options.zoo):
        console.print(line, markup=False, highlight=False)
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(markdown(rows, options.zoo), encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--zoo", nargs="+", choices=ZOOS, default=ZOOS)
    parser.add_argument("--only", nargs="+", default=["*"], help="shell patterns of names")
    parser.add_argument("--ratio", nargs="+", type=float, default=[0.5, 0.75])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=600, help="seconds per network and ratio")
    parser.add_argument("--rows", type=Path, default=Path("docs/coverage.jsonl"), help="all rows")
    parser.add_argument("--out", type=Path, default=Path("build/coverage"), help="what is printed")
    parser.add_argument("--known", action="store_true", help="make no further rows")
    parser.add_argument("--fresh", action="store_true", help="make the chosen rows anew")
    parser.add_argument("--write", type=Path, help="a page of all tables, such as docs/coverage.md")
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
