"""What a recipe's `finetune` learns from teachers."""

import pytest
import torch

import prunus
from prunus import zoo
from prunus.files import read_tensors, write_tensors
from prunus.recipe import load
from prunus.recovery import Distillation, SoftTargets
from prunus.run import run
from prunus.training import fit
from prunus.zoo import network


def weights(finished, stage):
    return read_tensors(finished.directory / stage / "weights.safetensors")[0]


def dense_weights(root):
    return next(root.glob("dense-*/seed-0/dense/weights.safetensors"))


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def unpruned(file):
    model = network("lenet300")
    zoo.load_weights(model, file)
    return model


@pytest.mark.parametrize(
    ("changes", "soft"),
    [
        (["distil={temperature=8.0, hard_weight=0.0}"],
         SoftTargets(temperature=8, hard_weight=0)),
        (["method.name=distil", "method.hard_weight=0.25"], SoftTargets(hard_weight=0.25)),
        (["method.name=distil", "distil.temperature=2.0"], SoftTargets(temperature=2)),
    ],
    ids=["table", "method", "table over method"],
)  # fmt: skip
def test_finetuning_learns_from_the_unpruned_network(changes, soft, tiny, tmp_path):
    recipe = load(tiny, changes)
    finished = run(recipe, tmp_path / "runs")

    model = prunus.load(finished.directory / "export/pruned.safetensors", network("lenet300"))
    model.load_state_dict(weights(finished, "prune"))
    teacher = unpruned(dense_weights(tmp_path / "runs"))
    data = zoo.dataset(batch_size=50, seed=0)
    fit(model, data, recipe.finetune, objective=Distillation(teacher, soft))
    assert same(model.state_dict(), weights(finished, "recover"))

    note = f"temperature {soft.temperature:g}, weight of the labels {soft.hard_weight:g}"
    assert any(note in line for line in finished.document["notes"])


def test_only_what_learns_from_teachers_is_done_again(tiny, tmp_path):
    told = []

    def announce(name, result, seconds):
        told.append((name, seconds is None))

    plain = run(load(tiny, ["arms=['scratch_e']"]), tmp_path / "runs")
    soft = run(load(tiny, ["arms=['scratch_e']", "distil.temperature=4.0"]), tmp_path / "runs")
    assert not same(weights(plain, "recover"), weights(soft, "recover"))
    for stage in ("prune", "scratch_e"):
        assert same(weights(plain, stage), weights(soft, stage))
    run(load(tiny, ["arms=['scratch_e']"]), tmp_path / "runs", announce=announce)
    assert all(found for _, found in told)


def test_a_gradual_method_learns_from_the_network_as_it_was_before(tiny, tmp_path):
    changes = ["method={name='gradual', end='4it', every='2it'}", "target.sparsity=0.75"]
    plain = run(load(tiny, changes), tmp_path / "runs")
    recipe = load(tiny, [*changes, "distil.hard_weight=0.0"])
    soft = run(recipe, tmp_path / "runs")
    mask = read_tensors(soft.directory / "prune" / "mask.safetensors")[0]
    assert not same(weights(plain, "prune"), weights(soft, "prune"))

    model = unpruned(dense_weights(tmp_path / "runs"))
    data = zoo.dataset(batch_size=50, seed=0)
    pruner = prunus.Pruner(
        model, torch.zeros(1, 1, 28, 28), recipe.method.build(), target=recipe.target
    )
    objective = Distillation(unpruned(dense_weights(tmp_path / "runs")), SoftTargets(hard_weight=0))
    fit(model, data, recipe.finetune, hook=pruner, objective=objective)
    assert same(model.state_dict(), weights(soft, "prune"))
    assert not any(model.get_parameter(name)[~kept].any() for name, kept in mask.items())


def test_teachers_may_be_others_and_are_part_of_the_result(tiny, tmp_path):
    root = tmp_path / "runs"
    changes = ["distil.teachers=['a.safetensors', 'b.safetensors']", "distil.combine=geometric"]
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        write_tensors(tmp_path / f"{name}.safetensors", network("lenet300").state_dict())
    recipe = load(tiny, changes)
    first = run(recipe, root)

    model = prunus.load(first.directory / "export/pruned.safetensors", network("lenet300"))
    model.load_state_dict(weights(first, "prune"))
    teachers = [unpruned(tmp_path / f"{name}.safetensors") for name in "ab"]
    objective = Distillation(teachers, SoftTargets(combine="geometric"))
    fit(model, zoo.dataset(batch_size=50, seed=0), recipe.finetune, objective=objective)
    learned = weights(first, "recover")
    assert same(model.state_dict(), learned)
    assert any("soft targets of 2 given networks" in line for line in first.document["notes"])

    told = []
    write_tensors(tmp_path / "a.safetensors", network("lenet300").state_dict())
    again = run(recipe, root, announce=lambda name, result, seconds: told.append((name, seconds)))
    assert [name for name, seconds in told if seconds is not None] == ["recover", "export"]
    assert not same(weights(again, "recover"), learned)


def test_teachers_teach_a_network_that_is_pruned_before_it_is_trained(tiny, tmp_path):
    torch.manual_seed(0)
    write_tensors(tmp_path / "a.safetensors", network("lenet300").state_dict())
    text = tiny.read_text().replace('[train]\nlength = "12it"\nlr = 0.05\n', "[distil]\n")
    tiny.write_text(text.replace('eval_every = "4it"\ncheckpoint_every = "3it"\n', ""))
    changes = ["method.name=snip", "target.sparsity=0.5", "distil.teachers=['a.safetensors']"]
    finished = run(load(tiny, changes), tmp_path / "runs")
    assert "recover" in {path.name for path in finished.directory.iterdir()}


def test_a_teacher_that_is_missing_is_said_before_anything_is_trained(tiny, tmp_path):
    recipe = load(tiny, ["distil.teachers=['none.safetensors']"])
    with pytest.raises(
        prunus.errors.RecipeError,
        match=r"distil\.teachers must name a file, got 'none.safetensors', which is in none",
    ):
        run(recipe, tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("weights.safetensors"))
