"""`prunus bench`: networks against each other, in any mix of runtimes."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from prunus.cli.show import Json, print_json

Several = Parameter(consume_multiple=True, negative="")


def bench(
    *names: str,
    runtime: Annotated[tuple[str, ...], Several] = ("onnxruntime",),
    precision: Annotated[tuple[str, ...], Several] = ("fp32",),
    threads: Annotated[tuple[int, ...], Several] = (1,),
    batch: Annotated[tuple[int, ...], Several] = (1,),
    rounds: int = 50,
    clock: Literal["wall", "processor"] = "wall",
    memory: bool = True,
    directory: Annotated[Path, Parameter(name="--dir")] = Path("runs"),
    html: Path | None = None,
    json: Json = False,
) -> None:
    """Time networks against each other in any mix of runtimes; speed-ups are over the first.

    All take turns in one process, so that a change of the machine's speed reaches them alike. A
    speed-up is the ratio of the medians, with the 95 % interval of a bootstrap over the rounds; one
    whose interval holds 1 is no difference beyond the noise, and is called so.

    ```
    prunus bench dense.onnx pruned.onnx --batch 1 16 --threads 1 2
    prunus bench dense.onnx pruned.onnx --runtime onnxruntime openvino --precision fp32 int8
    prunus bench recipe.toml other.onnx --runtime torch-compile onnxruntime --html bench.html
    ```

    Args:
        names: ONNX files, folders of `prunus shrink` or of a run, or recipes that have been run,
            the reference first. A folder stands for its dense and its smaller network.
        runtime: One or more of onnxruntime, openvino, sparse, torch-compile and torch. The last two
            take runs and recipes, not files.
        precision: One or more of fp32, bf16 and int8. For int8 the file NAME-int8.onnx beside the
            other, or that of the run, is taken, or one made for the measurement.
        threads: Threads inside an operator, one number or more.
        batch: Rows per inference, one number or more.
        rounds: Timings of each.
        clock: wall, or processor for the time that this process computes: what is right on a busy
            machine, for one thread.
        memory: Measure the peak memory of each in a process of its own, which takes seconds.
        directory: Where recipes have been run.
        html: Write a page with a chart.
        json: Print as JSON, with the machine.
    """
    from prunus.cli.candidates import candidates
    from prunus.deploy import compare, machine
    from prunus.deploy.bench import settings, unlike
    from prunus.deploy.energy import meter
    from prunus.deploy.progress import still_bar
    from prunus.report import write_bench

    if not names:
        raise ValueError(
            "bench needs a network, got none; give ONNX files, folders or recipes, the reference "
            "first."
        )
    where = settings(runtime, precision, threads, batch)
    networks = candidates(names, directory)
    notes = unlike(networks)
    counters = meter()
    here = machine()
    with still_bar(shown=not json) as tell:
        rows, refused = compare(
            networks, where, rounds=rounds, clock=clock, memory=memory, counters=counters, tell=tell
        )
    document = {
        "machine": here,
        "rounds": rounds,
        "clock": clock,
        "energy": "of the processor, by RAPL" if counters else "not readable",
        "rows": [row.to_dict() for row in rows],
        "refused": [
            {"name": one.name, **asdict(one.setting), "reason": one.reason} for one in refused
        ],
        "notes": notes,
    }
    if html is not None:
        write_bench(document, html)
    if json:
        print_json(document)
        return
    _print(document)
    if html is not None:
        print(f"page: {html}")


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    from prunus.report.bench import bench_grids, described, remarks
    from prunus.report.table import as_table

    print(described(document))
    for title, grid in bench_grids(document):
        Console().print("", Text(title, style="bold"), as_table(grid, names=18))
    for line in remarks(document):
        print(line)
    if document["energy"] == "not readable":
        print("energy: not readable")
