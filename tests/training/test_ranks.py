import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import prunus.training
from prunus.recovery import Distillation, SoftTargets
from prunus.training.batches import labelled
from prunus.training.participants import rank_seed, share_weight


def launch(directory, break_at):
    source = Path(prunus.training.__file__).parents[2]
    script = Path(__file__).with_name("ranked_run.py")
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
            *("--standalone", script, directory, str(break_at)),
        ],
        env={**os.environ, "PYTHONPATH": str(source), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_no_rank_draws_what_the_first_of_another_run_does():
    assert [rank_seed(seed, 0) for seed in range(9)] == [*range(9)]
    assert len({rank_seed(seed, rank) for seed in range(9) for rank in range(4)}) == 9 * 4


@given(st.lists(st.sampled_from([-100, 0, 1, 2]), min_size=3, max_size=12), st.booleans())
def test_weighted_means_of_ranks_are_the_mean_of_the_batch(labels, distilled):
    labels = torch.tensor(labels)
    logits, answers = torch.randn(2, len(labels), 3, generator=torch.Generator().manual_seed(0))
    soft = SoftTargets(hard_weight=0)

    def mean(part):
        if distilled:
            return soft.loss(logits[part], [answers[part]], labels[part])
        return functional.cross_entropy(logits[part], labels[part])

    count = Distillation(torch.nn.Identity(), soft).counted if distilled else labelled
    whole = mean(slice(None))
    shares = [slice(rank, None, 3) for rank in range(3)]
    weights = [share_weight(count(labels[part]), count(labels), 3) for part in shares]
    parts = [mean(part) * weight for part, weight in zip(shares, weights, strict=True) if weight]
    torch.testing.assert_close(sum(parts) / 3, whole, equal_nan=True)


@pytest.mark.slow
def test_two_ranks_agree_and_resume(tmp_path):
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    done = launch(calm, break_at=0)
    assert done.returncode == 0, done.stderr
    assert launch(stormy, break_at=8).returncode != 0
    assert (stormy / "train.checkpoint.safetensors").exists()
    done = launch(stormy, break_at=0)
    assert done.returncode == 0, done.stderr
    finals = {(path / f"rank{rank}.safetensors").read_bytes()
              for path in (calm, stormy) for rank in (0, 1)}  # fmt: skip
    assert len(finals) == 1
    metrics = [(path / "train.metrics.jsonl").read_bytes() for path in (calm, stormy)]
    assert metrics[0] == metrics[1]
