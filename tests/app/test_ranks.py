"""A recipe run by two processes that train together."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import prunus
from prunus.files import read_tensors

pytestmark = pytest.mark.slow

RECIPE = """
name = "tiny"
arms = ["scratch_e"]
[model]
name = "lenet300"
[data]
name = "fashion-mnist-embedded"
batch_size = 50
[train]
length = "8it"
lr = 0.05
[finetune]
length = "12it"
lr = 0.05
checkpoint_every = "3it"
[method]
name = "gradual"
end = "8it"
every = "2it"
[target]
sparsity = 0.9
[export]
onnx = false
"""


def launch(folder, killed=-1, before=0):
    """Run the recipe in a folder; return what torchrun said, and the seconds it took."""
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE)
    here = Path(__file__)
    paths = (Path(prunus.__file__).parents[1], here.parents[1])
    start = time.perf_counter()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
            *("--standalone", here.with_name("ranked_recipe.py"), folder, str(killed), str(before)),
            *("run", folder / "recipe.toml", "--dir", folder / "runs"),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done, time.perf_counter() - start


def files(folder):
    """Return what must not depend on whether the run was stopped."""
    kept = ("weights.safetensors", "mask.safetensors", "dense.metrics.jsonl", "prune.metrics.jsonl")
    found = {path for name in kept for path in (folder / "runs").rglob(name)}
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calm")
    return folder, *launch(folder)


def test_two_ranks_run_a_recipe_and_the_first_one_writes_and_speaks(calm):
    folder, done, _ = calm
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1
    assert done.stderr.count("✓ prune") == 1
    assert len(list((folder / "runs").rglob("result.json"))) == 5, "one per stage and one for all"
    assert not list((folder / "runs").rglob("*.tmp"))
    for stage in ("dense", "prune", "scratch_e"):
        ranks = [read_tensors(folder / f"{stage}-rank{k}.safetensors")[0] for k in (0, 1)]
        assert ranks[0].keys() == ranks[1].keys()
        assert all(ranks[0][name].equal(ranks[1][name]) for name in ranks[0])
        masks = {name: value for name, value in ranks[0].items() if name.startswith("mask.")}
        assert bool(masks) == (stage == "prune")
        assert all(value.bool().float().mean() < 0.5 for name, value in masks.items() if
                   name.endswith("fc1.weight"))  # fmt: skip


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_is_killed_ends_the_other_and_both_go_on(killed, calm, tmp_path):
    folder, _, needed = calm
    done, seconds = launch(tmp_path, killed, before=11)  # the dense network takes eight steps
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr
    assert seconds < 2 * needed + 30
    assert list(tmp_path.rglob("prune.checkpoint.safetensors"))
    again, _ = launch(tmp_path)
    assert again.returncode == 0, again.stderr
    assert files(tmp_path) == files(folder)
    assert len(files(folder)) == 6
