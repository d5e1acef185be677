"""Commands that train: a recipe's run, the demo, and the report of a run that is done."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from prunus.cli.federation import print_times
from prunus.cli.show import Json, Logs, announce, print_arms, print_json, told


def demo(
    *,
    directory: Annotated[Path, Parameter(name="--dir")] = Path("prunus-demo"),
    json: Json = False,
) -> None:
    """Show all of it on a small network and embedded images, in about a minute.

    Trains LeNet-5 on Fashion-MNIST, prunes 90 % of its weights while it trains and, separately,
    half of its multiply-accumulates by filters, recovers, trains the smaller network from scratch
    for comparison, proves equality, exports, times in ONNX Runtime, and writes a report.

    Args:
        directory: Where the runs are kept; a second call finds them done.
        json: Print the result documents as JSON.
    """
    from prunus.demo import demo as play
    from prunus.demo import side_by_side
    from prunus.report.headline import headline

    finished = play(directory, announce=announce, progress=not json)
    if json:
        print_json([one.document for one in finished])
        return
    print_arms(side_by_side(finished))
    for one in finished:
        print(f"{one.document['title']}: {headline(one.document)}")
        print(f"report: {one.directory / 'report.html'}")


def run(
    recipe: Path,
    /,
    *,
    changes: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    seed: int | None = None,
    directory: Annotated[Path, Parameter(name="--dir")] = Path("runs"),
    log: Logs = None,
    json: Json = False,
) -> None:
    """Run a recipe: train or load, prune, recover, remove, prove, export, time, report.

    A run that was stopped at any moment goes on when the same command is given again.

    ```
    prunus run recipes/l1-filter-resnet20-cifar10.toml
    prunus run recipe.toml --set target.macs=0.3 --set finetune.length=20ep
    prunus run recipe.toml --seed 1 --dir /data/runs
    prunus run recipe.toml --log tensorboard --log mlflow:http://host:5000
    torchrun --nproc-per-node 2 -m prunus run recipe.toml     # two GPUs, or processes
    ```

    Args:
        recipe: A TOML file.
        changes: Change one key of the recipe, as table.key=value; may be given again.
        seed: Instead of the recipe's.
        directory: The run is kept in DIR/NAME-HASH/seed-N.
        log: Also log to tensorboard[:FOLDER] (DIR/tensorboard) or mlflow[:URI]; may be given again.
        json: Print the result document as JSON.
    """
    from prunus.ranks import first
    from prunus.recipe import load
    from prunus.report.headline import headline
    from prunus.run import run as execute
    from prunus.tracking import sink
    from prunus.training.participants import join

    overrides = [*(changes or []), *([] if seed is None else [f"seed={seed}"])]
    loaded, sinks = load(recipe, overrides), [sink(text, directory) for text in log or ()]
    join()
    with told(shown=first() and not json):
        finished = execute(loaded, directory, announce=announce, progress=not json, sinks=sinks)
    if not first():
        return
    if json:
        print_json(finished.document)
        return
    print_arms(finished.document)
    print(headline(finished.document))
    print(f"report: {finished.directory / 'report.html'}")


def report(run_directory: Path, /, *, json: Json = False) -> None:
    """Draw the report of a run again, and print its table.

    ```
    prunus report runs/l1-filter-resnet20-cifar10-1a2b3c4d/seed-0
    ```

    Args:
        run_directory: Holds the run's result.json.
        json: Print the result document as JSON.
    """
    from prunus.files import read_json
    from prunus.report import write_federation, write_report

    path = run_directory / "result.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"a finished run's directory has a result.json, {run_directory} has none; "
            "give DIR/NAME-HASH/seed-N."
        )
    document = read_json(path)
    page = run_directory / "report.html"
    federated = "time_to_accuracy" in document
    (write_federation if federated else write_report)(document, page)
    if json:
        print_json(document)
        return
    (print_times if federated else print_arms)(document)
    print(f"report: {page}")
