"""Settings of the whole suite: threads, where the real data lies, reproducible property tests."""

import os
from pathlib import Path

import pytest

# threads cost tiny networks more than they give, and the more so on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("prunus", deadline=None, derandomize=True)
settings.load_profile("prunus")

_NEAR = Path(__file__).resolve().parents[2] / "shared" / "data"
if "PRUNUS_DATA" not in os.environ and _NEAR.is_dir():
    os.environ["PRUNUS_DATA"] = str(_NEAR)


@pytest.fixture
def real_data() -> Path:
    """The folder of real datasets; the test is skipped where there is none."""
    folder = os.environ.get("PRUNUS_DATA")
    if not folder:
        pytest.skip("needs real data: set PRUNUS_DATA to a folder with cifar10/, pretrained/ ...")
    return Path(folder)


@pytest.fixture(autouse=True)
def _global_random_state_is_not_shared() -> None:
    torch.manual_seed(0)
