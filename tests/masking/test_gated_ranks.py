"""What a masking learns is the same on all ranks, and what one rank learns from all samples."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import prunus
from prunus.files import read_tensors


def run(directory, *launcher):
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, *launcher, Path(__file__).with_name("gated_run.py"), directory],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(prunus.__file__).parents[1]),
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return [read_tensors(file)[0] for file in sorted(directory.glob("*.safetensors"))]


@pytest.mark.slow
def test_two_ranks_learn_what_one_does(tmp_path):
    first, second = run(
        *(tmp_path / "two", "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone")
    )
    (alone,) = run(tmp_path / "one")
    assert {"gate.values", "l0.values", "movement.values"} < alone.keys()
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-4)
