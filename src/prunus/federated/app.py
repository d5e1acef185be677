"""The folder that `flwr run` takes: it names the apps of this package and holds the recipe."""

from pathlib import Path

from prunus.federated.recipe import FederatedRecipe
from prunus.files import write_text
from prunus.recipe import to_toml


def write_app(
    recipe: FederatedRecipe,
    folder: Path | str,
    *,
    state: Path | str = Path("runs"),
    nodes: int = 1,
    seconds: float = 600.0,
) -> Path:
    """Write a Flower app for a recipe; return its `pyproject.toml`.

    It has no dependencies of its own, so that nothing is installed when it starts: Prunus has to be
    there on the server and on every node.

    Args:
        recipe: The federated run.
        folder: Where to; made if missing.
        state: The folder of all runs on the machine of the server, in which a run goes on; a
            relative one is of this machine, unless it begins with "~", the server's home directory.
        nodes: For how many nodes the server waits at the beginning.
        seconds: How long a node may take for a round; what comes later is lost.

    Raises:
        ValueError: A number is out of range.
        OSError: The folder cannot be written.
    """
    if nodes < 1 or not seconds > 0:
        raise ValueError(f"nodes and seconds must be above 0, got {nodes} and {seconds:g}.")
    path = Path(folder) / "pyproject.toml"
    config = {
        "recipe": recipe.model_dump_json(exclude_defaults=True),
        "directory": str(state if Path(state).parts[:1] == ("~",) else Path(state).absolute()),
        "nodes": nodes,
        "seconds": float(seconds),
    }
    components = {
        "serverapp": "prunus.federated.server_app:app",
        "clientapp": "prunus.federated.client_app:app",
    }
    project = {"name": "prunus-federation", "version": "1.0.0", "dependencies": []}
    flower = {"publisher": "prunus", "components": components, "config": config}
    write_text(path, to_toml({"project": project, "tool": {"flwr": {"app": flower}}}))
    return path
