"""`prunus methods`."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prunus.cli.show import Json, print_json, print_table, print_text

# torch is imported where it is needed, so that --help comes at once.
if TYPE_CHECKING:
    from prunus.methods import Method


def methods(name: str | None = None, /, *, json: Json = False) -> None:
    """List the pruning methods, or explain one by its answers to the six questions.

    ```
    prunus methods
    prunus methods l1_filter
    ```

    Args:
        name: One method; its paper, composition, arguments with their defaults, and a recipe.
        json: Print everything as JSON, method by name.
    """
    from prunus.methods import METHODS
    from prunus.pruning import resolve

    chosen = METHODS if name is None else {resolve(name).name: METHODS[name]}
    found = {key: _describe(key, function) for key, function in chosen.items()}
    if json:
        print_json(found)
    elif name is None:
        print_table(
            "Methods",
            ("name", "removes", "when", "how"),
            [(key, one["removes"], one["when"], one["summary"]) for key, one in found.items()],
        )
        print_text(
            "`prunus methods NAME` shows the paper, the arguments, the answers to the six "
            "questions, and a recipe. What prunes in training needs `prunus run`; the others work "
            "in `prunus shrink`, too."
        )
    else:
        _explain(found[name])


def _explain(one: Mapping[str, Any]) -> None:
    """Print all about one method."""
    about, _, arguments = one["documentation"].partition("\nArgs:\n")
    for paragraph in about.strip().split("\n\n"):
        print_text(paragraph)
        print()
    print_text(f"Source: {one['source']}")
    if one["deviation"]:
        print_text(f"Deviation: {one['deviation']}")
    print()
    print_table("Composition", ("question", "answer"), one["composition"].items())
    told = re.findall(r"^    (\w+): (.+?)(?=^ {0,4}\w|\Z)", arguments, re.DOTALL | re.MULTILINE)
    said = dict(told)
    print_table(
        "Arguments: keys of a recipe's [method] table, and of --set in `prunus shrink`",
        ("key", "default", "meaning"),
        [
            (key, repr(value), " ".join(said.get(key, "").split()))
            for key, value in one["arguments"].items()
        ],
    )
    print(f"A recipe, for `prunus run`:\n\n{one['recipe']}")


def _describe(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    from prunus.methods.composition import composition, removes

    page = inspect.getdoc(inspect.getmodule(function)) or ""
    text = inspect.getdoc(function) or ""
    method = function()
    return {
        "summary": text.partition("\n")[0],
        "removes": removes(method),
        "when": _when(method),
        "source": _paragraph("Source", page),
        "deviation": _paragraph("Deviation", page),
        "arguments": {
            key: parameter.default
            for key, parameter in inspect.signature(function).parameters.items()
        },
        "composition": composition(method),
        "documentation": text,
        "recipe": _recipe(name),
    }


def _when(method: "Method") -> str:
    if method.during_training:
        return "in training"
    return "at the start" if method.before_training else "once"


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
