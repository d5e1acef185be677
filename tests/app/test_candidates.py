"""What names on the command line of `prunus bench` stand for."""

import pytest

from prunus.cli.candidates import candidates
from prunus.errors import CheckpointError, RecipeError
from prunus.recipe import load
from prunus.run import Plan, modules


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def test_a_run_stands_for_both_of_its_networks(tmp_path):
    run = tmp_path / "runs" / "a"
    for name in ("result.json", "export/dense.onnx", "quantise/dense-int8.onnx"):
        touch(run / name)
    dense, pruned = candidates([str(run)], tmp_path)
    assert (dense.name, pruned.name) == (f"{run} dense", f"{run} pruned")
    assert dense.file == run / "export" / "dense.onnx"
    assert dense.int8 == run / "quantise" / "dense-int8.onnx"
    assert pruned.file is pruned.int8 is None
    assert pruned.module is not None


def test_files_and_folders_in_the_order_of_the_names_once(tmp_path):
    file = touch(tmp_path / "a.onnx")
    touch(tmp_path / "small" / "pruned.onnx")
    found = candidates([str(file), str(tmp_path / "small"), str(file)], tmp_path)
    assert [one.name for one in found] == [str(file), f"{tmp_path / 'small'} pruned"]
    assert all(one.module is None for one in found)


def test_a_recipe_stands_for_its_run(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"has not been run in .*prunus run"):
        candidates([str(tiny)], tmp_path / "runs")
    touch(Plan(load(tiny), tmp_path / "runs").directory / "result.json")
    dense, _ = candidates([str(tiny)], tmp_path / "runs")
    assert dense.name == f"{tiny} dense"


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be a folder of `prunus run`"):
        candidates([str(tmp_path)], tmp_path)
    with pytest.raises(FileNotFoundError, match="no ONNX file at none"):
        candidates(["none"], tmp_path)
    with pytest.raises(RecipeError):
        candidates([str(touch(tmp_path / "a.toml"))], tmp_path)


def test_a_run_whose_stages_are_gone_is_refused(tiny, tmp_path):
    directory = Plan(load(tiny), tmp_path / "runs").directory
    touch(directory / "recipe.toml").write_text(load(tiny).to_toml())
    with pytest.raises(CheckpointError, match=r"'dense' of .* run the recipe again"):
        modules(directory)
