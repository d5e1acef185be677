"""The recipe of a federation, its mistakes, and the command."""

import json
import tomllib
from pathlib import Path

import pytest

from prunus.cli import main
from prunus.errors import DataError, RecipeError
from prunus.federated import federate, load, parse
from prunus.federated.recipe import parse_json

ROOT = Path(__file__).resolve().parents[2]
RECIPES = [
    path
    for path in sorted((ROOT / "recipes").glob("*.toml"))
    if "[clients]" in path.read_text(encoding="utf-8").split()
]


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_recipes_of_the_repository_are_right_and_named_after_their_file(file):
    told = load(file)
    assert told.name == file.stem
    assert parse(tomllib.loads(told.to_toml())) == told
    assert parse_json(told.model_dump_json(exclude_defaults=True)) == told


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"train": {"length": "1ep"}}, "must be steps, such as '5it', got '1ep'"),
        ({"train": {"schedule": "cosine"}}, "train.schedule is about a whole training"),
        ({"rounds": {"total": 3}}, "method.end must be within the 3 rounds, got 4it"),
        ({"method": {"name": "dense"}, "initial": {}}, r"\[initial\] is of method 'prunefl'"),
        ({"method": {"name": "snipp"}}, "method 'snipp' is unknown. Did you mean 'snip'"),
        ({"method": {"name": "prunefl", "share": 1.5}}, r"share must be in \(0, 1\)"),
        ({"method": {"name": "prunefl", "time": "sundial"}}, "time 'sundial' is unknown"),
        ({"method": {"name": "iterative", "end": "6it", "prunings": 4}}, "divide the 6 rounds"),
        ({"time": "sundial"}, "time must be one of by_macs, raspberry_pi_conv2, measured"),
        (
            {"clients": {"data": "omniglot", "by": "writer"}, "rounds": {"evaluate_one_in": 5}},
            "must be 1 for 'omniglot', whose test samples come class by class",
        ),
        (
            {"time": "raspberry_pi_conv2"},
            "measured for 'prunefl_conv2' and says nothing of 'lenet300'",
        ),
        (
            {"method": {"name": "prunefl", "end": "4it", "time": "raspberry_pi_conv2"}},
            "says nothing of 'lenet300'; take 'by_macs' or 'measured'",
        ),
        ({"target": {"macs": 0.5}}, "macs is a cost of channels"),
        ({"clients": {"speeds": [0.0]}}, "above 0"),
        ({"clients": {"dropout": 1.0}}, "'clients.dropout' must be below 1"),
        ({"clients": {"dropot": 0.1}}, "Did you mean 'dropout'"),
    ],
)
def test_mistakes_are_said_before_anything_is_done(recipe, tables, message):
    with pytest.raises(RecipeError, match=message):
        recipe(**tables)


@pytest.mark.slow
@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_recipes_of_the_repository_run_cut_short(file, tmp_path, monkeypatch):
    monkeypatch.undo()  # on their own data
    short = {
        "rounds": {"total": 3, "evaluate_every": 3, "judged": 2},
        "clients": {"per_round": 2},
        "initial": {"rounds": 3, "look": 1, "every": 1, "batches": 2},
        "method": {"begin": "1it", "end": "2it", "every": "1it"},
    }
    changes = [f"{t}.{k}={v}" for t, keys in short.items() for k, v in keys.items()]
    try:
        found = federate(load(file, changes), tmp_path).document
    except DataError as error:
        if "PRUNUS_DATA" not in str(error):
            raise
        pytest.skip(f"its data are not here: {error}")
    assert 0 < found["density"] < 1 and found["report"]["verification"]["passed"]


def test_a_recipe_without_clients_is_for_another_command():
    with pytest.raises(RecipeError, match="no \\[clients\\] table"):
        load(ROOT / "recipes" / "snip-resnet20-cifar10.toml")


def test_the_command_runs_a_recipe_and_prints_its_document(recipe, tmp_path, capsys):
    file = tmp_path / "small.toml"
    file.write_text(recipe(rounds={"total": 4}).to_toml())
    arguments = ["federate", str(file), "--dir", str(tmp_path / "runs")]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rounds"][-1]["round"] == 4 and found["title"] == "small"
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "of the simulated clock" in told and "report:" in told
    (directory,) = (path.parent for path in (tmp_path / "runs").rglob("result.json"))
    assert main(["report", str(directory)]) == 0  # the page is drawn again from the document
    assert capsys.readouterr().out == told
    assert "Time to accuracy" in (directory / "report.html").read_text(encoding="utf-8")
    assert main([*arguments, "--set", "rounds.total=3"]) == 2


def test_the_command_writes_an_app_for_several_machines(recipe, tmp_path, capsys):
    file, folder = tmp_path / "small.toml", tmp_path / "app"
    told = recipe()
    file.write_text(told.to_toml())
    arguments = ["federate", str(file), "--app", str(folder), "--dir", str(tmp_path / "runs")]
    assert main([*arguments, "--nodes", "3", "--timeout", "60"]) == 0
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    config = project["tool"]["flwr"]["app"]["config"]
    assert parse_json(config["recipe"]) == told
    assert config["nodes"] == 3 and config["directory"] == str(tmp_path / "runs")
    assert project["project"]["dependencies"] == []
    for component in project["tool"]["flwr"]["app"]["components"].values():
        module, _, name = component.partition(":")
        assert (ROOT / "src" / Path(*module.split("."))).with_suffix(".py").is_file()
        assert name == "app"
    assert main([*arguments, "--nodes", "0"]) == 2
    assert "nodes and seconds must be above 0" in capsys.readouterr().err
