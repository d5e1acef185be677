"""The networks of a run that is done."""

from pathlib import Path

from prunus.deploy import Module
from prunus.errors import CheckpointError
from prunus.recipe import load
from prunus.run.plan import Plan
from prunus.run.work import Work


def modules(directory: Path) -> dict[str, Module]:
    """Build the dense and the smaller network of a run, each with an input.

    Args:
        directory: The run's own folder.

    Returns:
        "dense" and "pruned".

    Raises:
        CheckpointError: Its files are gone, or not those of its recipe.
        RecipeError: The recipe names a missing file.
    """
    directory = directory.resolve()
    recipe = load(directory / "recipe.toml")
    steps = Plan(recipe, directory.parent.parent).steps
    done = {}
    for argument, stage in steps["export"].needs.items():
        found = steps[stage].recall()
        if found is None:
            raise CheckpointError(
                f"the stage '{stage}' of {directory} is not that of its recipe, or gone; "
                "run the recipe again."
            )
        done[argument] = found
    work = Work(recipe)
    networks = work.networks(**done)
    return {name: Module(network, work.example) for name, network in networks.items()}
