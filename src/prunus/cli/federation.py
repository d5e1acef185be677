"""`prunus federate`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from prunus.cli.show import Json, print_json, print_table

if TYPE_CHECKING:
    from prunus.federated.execute import Tell


def federate(
    recipe: Path,
    /,
    *,
    changes: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    seed: int | None = None,
    directory: Annotated[Path, Parameter(name="--dir")] = Path("runs"),
    app: Path | None = None,
    nodes: int | None = None,
    timeout: float = 600.0,
    connect: str | None = None,
    certificate: Path | None = None,
    simulate: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Train and prune one network on data that stay with their clients, by default in this process.

    What would travel is written and read as it would be, and counted; a clock shows what the rounds
    would take on the devices of a time model. A run that was stopped at any moment goes on when the
    same command is given again.

    ```
    prunus federate recipes/prunefl-mnist.toml
    prunus federate recipes/prunefl-mnist.toml --set rounds.total=200 --set method.end=150it
    prunus federate recipes/prunefl-mnist.toml --connect 10.0.0.5 --certificate ca.crt --nodes 3
    prunus federate recipes/prunefl-mnist.toml --simulate    # by Ray
    prunus federate recipes/prunefl-mnist.toml --app edge --nodes 3    # over machines: docs/how-to
    ```

    Args:
        recipe: A TOML file with a [clients] table.
        changes: Change one key of the recipe, as table.key=value; may be given again.
        seed: Instead of the recipe's.
        directory: The run is kept in DIR/NAME-HASH/seed-N; with --connect to another machine there,
            below the home directory unless DIR is absolute.
        app: Run nothing, but write the app that `flwr run` starts over several machines here.
        nodes: With --connect and --app, for how many nodes the server waits at the beginning; 1 by
            default.
        timeout: On Flower, seconds that a node may take for a round.
        connect: Run on the nodes of the SuperLink at HOST or HOST:PORT (8000).
        certificate: With --connect, of the authority that the SuperLink's certificate is by.
        simulate: Run on Flower's simulation by Ray, every client a node; needs prunus[fed-sim].
        json: Print the result document as JSON.
    """
    from prunus.federated import federate as perform
    from prunus.federated import load

    ways = [way is not None for way in (app, connect)] + [simulate]
    if sum(ways) > 1:
        raise ValueError("--app, --connect and --simulate are three ways; give one of them.")
    if certificate is not None and connect is None:
        raise ValueError("--certificate goes with --connect.")
    if certificate is not None and not certificate.is_file():
        raise FileNotFoundError(f"no certificate at {certificate}")
    if nodes is not None and app is None and connect is None:
        raise ValueError("--nodes goes with --app and --connect; clients.count divides the data.")
    count = 1 if nodes is None else nodes
    overrides = [*(changes or []), *([] if seed is None else [f"seed={seed}"])]
    loaded = load(recipe, overrides)
    if app is not None:
        from prunus.federated.app import write_app

        written = write_app(loaded, app, state=directory, nodes=count, seconds=timeout)
        print(f"app: {written.parent}, for `flwr run {written.parent}`")
        return
    with _progress(loaded.rounds.total, shown=not json) as tell:
        if connect is not None:
            from prunus.federated.superlink import connect as perform_there
            from prunus.federated.superlink import there

            done = perform_there(
                *(loaded, connect, directory),
                certificate=certificate,
                nodes=count,
                seconds=timeout,
                tell=tell,
            )
        elif simulate:
            from prunus.federated.superlink import simulate as perform_simulated

            done = perform_simulated(loaded, directory, seconds=timeout, tell=tell)
        else:
            done = perform(loaded, directory, tell=tell)
    if done is None:
        assert connect is not None
        place = there(connect, directory)
        print(f"done; the result lies on the SuperLink's machine, below {place}.")
        return
    if json:
        print_json(done.document)
        return
    print_times(done.document)
    print(f"report: {done.directory / 'report.html'}")


def print_times(document: Mapping[str, Any]) -> None:
    """Print when a federation reached which accuracy, and what came out, in a sentence."""
    from prunus.report.federation import page, sentence

    columns = ("of the final accuracy", "accuracy", "round", "simulated clock", "bytes")
    rows = [[str(value) for value in row.values()] for row in page(document)["reached"]]
    print_table(f"{document['title']}: {document['method']}", columns, rows)
    print(sentence(document))


@contextmanager
def _progress(total: int, *, shown: bool) -> "Iterator[Tell]":
    """Draw on standard error how many rounds are done, and the last accuracy and density."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    if not shown:
        yield lambda record: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        Remaining(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("rounds", total=total, words="")
        accuracy = ""

        def tell(record: Mapping[str, Any]) -> None:
            nonlocal accuracy
            if record.get("accuracy") is not None:
                accuracy = f"test {record['accuracy']:.2%} "
            words = f"{accuracy}density {record['density']:.1%}"
            progress.update(bar, completed=record["round"], words=words)

        yield tell
