import json
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """
name = "tiny"
arms = ["scratch_e"]
[model]
name = "lenet300"
[data]
name = "fashion-mnist-embedded"
batch_size = 50
[train]
length = "12it"
lr = 0.05
eval_every = "4it"
checkpoint_every = "3it"
[finetune]
length = "12it"
lr = 0.05
eval_every = "4it"
checkpoint_every = "3it"
[export]
onnx = false
"""

ARMS = {"lottery": '["reinit", "random_mask"]'}  # others train from scratch
METHODS = {
    "distil": '[method]\nname = "distil"\n[target]\nmacs = 0.5\n',
    "lottery": '[method]\nname = "lottery"\ntraining = "12it"\nrounds = 2\nrewind = "5it"\n',
    "gradual": '[method]\nname = "gradual"\nend = "8it"\nevery = "2it"\n[target]\nsparsity = 0.9\n'
    "[distil]\ntemperature = 2.0\n",
}


LONG = ("gradual", "distil")  # they stop at the same kinds of moments
KILLED = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in METHODS]


@pytest.mark.parametrize("method", KILLED)
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(method, tmp_path):
    recipe = tmp_path / "recipe.toml"
    arms = ARMS.get(method, '["scratch_e"]')
    recipe.write_text(RECIPE.replace('["scratch_e"]', arms) + METHODS[method])
    script = Path(__file__).with_name("killed_runs.py")
    command = [sys.executable, str(script), str(recipe), str(tmp_path / "runs"), "5", "0"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert any(name.endswith("prune/mask.safetensors") for name in report["files"])
    assert any(name.endswith(".metrics.jsonl") for name in report["files"])
    assert all(one["whole"] for one in report["outcomes"]), (report, found.stderr)
    assert not any(one["stray"] for one in report["outcomes"])
    # The kills were real, and fell into more than one stage.
    assert sum(one["killed"] for one in report["outcomes"]) >= 3
    assert len({tuple(one["done"]) for one in report["outcomes"]}) >= 2
