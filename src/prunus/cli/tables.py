"""`prunus methods`."""

import inspect
import re
from collections.abc import Callable
from typing import Any

from prunus.cli.show import Json, print_json, print_table


def methods(name: str | None = None, /, *, json: Json = False) -> None:
    """List the pruning methods, or explain one.

    ```
    prunus methods
    prunus methods l1_filter
    ```

    Args:
        name: One method; its source, arguments and their defaults are shown.
        json: Print as JSON, method by name.
    """
    from prunus.methods import METHODS
    from prunus.pruning import resolve

    chosen = METHODS if name is None else {resolve(name).name: METHODS[name]}
    found = {key: _describe(function) for key, function in chosen.items()}
    if json:
        print_json(found)
    elif name is None:
        rows = [(key, one["summary"], one["source"]) for key, one in found.items()]
        print_table("Methods", ("name", "what it does", "source"), rows)
    else:
        one = found[name]
        print(f"{one['documentation']}\n\nSource: {one['source']}")
        if one["deviation"]:
            print(f"Deviation: {one['deviation']}")
        print_table(
            "Keys of a recipe's [method] table",
            ("key", "default"),
            [(key, repr(value)) for key, value in one["arguments"].items()],
        )


def _describe(function: Callable[..., Any]) -> dict[str, Any]:
    page = inspect.getdoc(inspect.getmodule(function)) or ""
    text = inspect.getdoc(function) or ""
    return {
        "summary": text.partition("\n")[0],
        "source": _paragraph("Source", page),
        "deviation": _paragraph("Deviation", page),
        "arguments": {
            key: parameter.default
            for key, parameter in inspect.signature(function).parameters.items()
        },
        "documentation": text,
    }


def _paragraph(heading: str, page: str) -> str:
    found = re.search(
        rf"^{heading}: (.+?)(?=^[A-Z][a-z]+: |\n\n|\Z)", page, re.DOTALL | re.MULTILINE
    )
    return " ".join(found[1].split()) if found else ""
