"""Peak memory of loading and running a network."""

import os
import sys

import pytest

from prunus.deploy import memory
from prunus.deploy.memory import peak_memory
from prunus.errors import InferenceError
from prunus.types import Setting
from small_files import matmuls

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not tell")


def test_the_weights_count_and_what_was_there_before_does_not(tmp_path):
    small = memory._measure(matmuls(tmp_path / "a", 1, width=64), Setting())
    large = memory._measure(matmuls(tmp_path / "b", 1, width=1024), Setting())  # 4 MiB
    if small is None:
        pytest.skip("this process may not reset its peak")
    assert large - small > 3 * 2**20
    assert large < 100 * 2**20, "which PyTorch alone exceeds"


def test_where_the_kernel_does_not_tell_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    assert peak_memory(matmuls(tmp_path / "a", 1), Setting()) is None


class Deadly:
    """Ends the process that it is sent to."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.slow
def test_a_process_of_its_own(tmp_path):
    assert peak_memory(matmuls(tmp_path / "a", 1, width=2048), Setting()) > 12 * 2**20
    with pytest.raises(InferenceError, match="measure its memory died"):
        peak_memory(Deadly(), Setting())
