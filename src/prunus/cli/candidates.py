"""The networks that names on the command line of `prunus bench` stand for."""

from collections.abc import Callable, Sequence
from pathlib import Path

from prunus.deploy import Candidate, Module
from prunus.recipe import load
from prunus.run import Plan, modules

_NETWORKS = ("dense", "pruned")


def candidates(names: Sequence[str], directory: Path) -> list[Candidate]:
    """Return what is measured, in the order of the names.

    Args:
        names: ONNX files, folders of runs or of `prunus shrink`, recipes.
        directory: Where recipes have been run.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A folder holds no networks, or a recipe has not been run.
        RecipeError: A recipe has a mistake.
    """
    found: list[Candidate] = []
    for name in names:
        path = Path(name)
        if path.suffix == ".toml":
            run = Plan(load(path), directory).directory
            if not (run / "result.json").is_file():
                raise ValueError(
                    f"{name} has not been run in {directory}; `prunus run {name}` first, or name "
                    "its folder by --dir."
                )
            found += _of_run(name, run)
        elif (path / "result.json").is_file():
            found += _of_run(name, path)
        elif path.is_dir():
            found += _of_folder(name, path)
        elif path.is_file():
            found.append(Candidate(name, path))
        else:
            raise FileNotFoundError(f"no ONNX file at {name}")
    return list({one.name: one for one in found}.values())


def _of_run(name: str, run: Path) -> list[Candidate]:
    return [
        Candidate(
            name=f"{name} {which}",
            file=_existing(run / "export" / f"{which}.onnx"),
            int8=_existing(run / "quantise" / f"{which}-int8.onnx"),
            module=_module(run, which),
        )
        for which in _NETWORKS
    ]


def _of_folder(name: str, folder: Path) -> list[Candidate]:
    files = [(which, _existing(folder / f"{which}.onnx")) for which in _NETWORKS]
    found = [Candidate(f"{name} {which}", file) for which, file in files if file]
    if not found:
        raise ValueError(
            f"{name} must be a folder of `prunus run` or `prunus shrink`, but has no result.json, "
            "dense.onnx or pruned.onnx; name the files."
        )
    return found


def _module(run: Path, which: str) -> Callable[[], Module]:
    return lambda: modules(run)[which]


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
