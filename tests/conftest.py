"""Settings of the whole suite: threads, where the real data lies, reproducible property tests."""

import os
import subprocess
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


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 256 KiB; only root can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this environment does not allow mounting a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(autouse=True)
def _global_random_state_is_not_shared() -> None:
    torch.manual_seed(0)
