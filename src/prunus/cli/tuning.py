"""`prunus tune`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from prunus.cli.show import Json, counted, print_json, print_table

if TYPE_CHECKING:
    from prunus.study.tune import Tell


def tune(
    recipe: Path,
    /,
    *,
    changes: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    trials: int | None = None,
    minutes: float | None = None,
    directory: Annotated[Path, Parameter(name="--dir")] = Path("runs"),
    json: Json = False,
) -> None:
    """Search a recipe's keys for the best networks: how accurate, and how small or fast.

    What is chosen is chosen on the validation split; the best are then looked at on the test split,
    and their recipes written for `prunus run`. A search that was stopped at any moment, or is asked
    for more trials, goes on from what is there. Needs pip install 'prunus[tune]'.

    ```
    prunus tune recipes/tune-lenet5-fashion.toml
    prunus tune search.toml --trials 100 --minutes 60
    prunus tune search.toml --set tune.limits.macs=0.5 --set 'tune.objectives=["accuracy"]'
    ```

    Args:
        recipe: A TOML file with a [tune] table.
        changes: Change one key of the recipe, as table.key=value; may be given again.
        trials: How many in all, instead of the recipe's.
        minutes: After so long no trial is begun.
        directory: The results are kept in DIR/NAME-HASH, what was trained beside it.
        json: Print the result document as JSON.
    """
    from prunus.study import load_search
    from prunus.study import tune as search

    given = {"trials": trials, "minutes": minutes}
    own = [f"tune.{key}={value}" for key, value in given.items() if value is not None]
    loaded = load_search(recipe, [*(changes or []), *own])
    with _progress(loaded.tune.trials, shown=not json) as tell:
        done = search(loaded, directory, tell=tell)
    if json:
        print_json(done.document)
        return
    print_best(done.document)
    for text in (done.document["summary"], *done.document["notes"]):
        print(text)
    print(f"recipes: {done.directory / 'front'}")
    print(f"report: {done.directory / 'report.html'}")


def print_best(document: "Mapping[str, Any]") -> None:
    """Print the best trials of a search, in 80 columns."""
    from prunus.report.tune import COSTS, cost_text, quality, value_text

    metric = document["metric"]
    costs = [cost for cost in COSTS if cost in {*document["objectives"], *document["limits"]}]
    rows = []
    for row in document["front"]:
        sizes = ["\n".join(filter(None, cost_text(row, cost))) for cost in costs or ["macs"]]
        values = [f"{key} = {value_text(value)}" for key, value in row["values"].items()]
        found = (quality(row["val"], metric), quality(row["test"], metric))
        rows.append((str(row["number"]), *found, *sizes, "\n".join(values)))
    headings = ("Trial", "Validation", "Test", *(COSTS[cost] for cost in costs or ["macs"]), "With")
    print_table(document["title"], headings, rows)


@contextmanager
def _progress(total: int, *, shown: bool) -> "Iterator[Tell]":
    """Draw on standard error how many trials have ended, and what came of each."""
    if not shown:
        yield lambda event, ended, words: None
        return
    with counted(total) as (progress, bar):

        def tell(event: str, ended: int, words: str) -> None:
            if event == "ended":
                progress.console.print(words, markup=False)
            progress.update(bar, completed=ended, description=words)

        yield tell
