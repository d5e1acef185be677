"""`prunus methods`."""

import inspect
import re
from collections.abc import Callable
from typing import Any

from prunus.cli.show import Json, print_json, print_table


def methods(name: str | None = None, /, *, json: Json = False) -> None:
    """List the pruning methods by their answers to the six questions, or explain one.

    ```
    prunus methods
    prunus methods l1_filter
    ```

    Args:
        name: One method; its paper, composition, arguments with their defaults, and a recipe.
        json: Print as JSON, method by name.
    """
    from prunus.methods import METHODS
    from prunus.pruning import resolve

    chosen = METHODS if name is None else {resolve(name).name: METHODS[name]}
    found = {key: _describe(key, function) for key, function in chosen.items()}
    if json:
        print_json(found)
    elif name is None:
        questions = next(iter(found.values()))["composition"]
        rows = [(key, *one["composition"].values()) for key, one in found.items()]
        print_table("Methods", ("name", *questions), rows)
    else:
        one = found[name]
        print(f"{one['documentation']}\n\nSource: {one['source']}")
        if one["deviation"]:
            print(f"Deviation: {one['deviation']}")
        print_table("Composition", ("question", "answer"), one["composition"].items())
        print_table(
            "Keys of a recipe's [method] table",
            ("key", "default"),
            [(key, repr(value)) for key, value in one["arguments"].items()],
        )
        print(f"A recipe, for `prunus run`:\n\n{one['recipe']}")


def _describe(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    from prunus.methods.composition import composition

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
        "composition": composition(function()),
        "documentation": text,
        "recipe": _recipe(name),
    }


def _recipe(name: str) -> str:
    """Return a recipe with the method's defaults, for the network and data of most papers."""
    from prunus.methods import METHODS
    from prunus.recipe import Recipe

    trained = {"length": "160ep", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    trained |= {"schedule": "milestones", "milestones": ["80ep", "120ep"]}
    if METHODS[name]().before_training:
        training = {"finetune": trained}
    else:
        short = {"lr": 0.01, "schedule": "cosine", "milestones": []}
        training = {"train": trained, "finetune": trained | short}
    return Recipe.model_validate(
        {
            "name": name.replace("_", "-"),
            "model": {"name": "resnet20"},
            "data": {"name": "cifar10"},
            "method": {"name": name},
            **training,
        }
    ).to_toml()


def _paragraph(heading: str, page: str) -> str:
    found = re.search(
        rf"^{heading}: (.+?)(?=^[A-Z][a-z]+: |\n\n|\Z)", page, re.DOTALL | re.MULTILINE
    )
    return " ".join(found[1].split()) if found else ""
