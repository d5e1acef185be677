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


def test_where_the_kernel_does_not_tell_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    assert peak_memory(matmuls(tmp_path / "a", 1), Setting()) is None


class Deadly:
    """Ends the process that it is sent to."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.slow
def test_a_process_of_its_own(tmp_path):
    small, large = (
        peak_memory(matmuls(tmp_path / str(width), 1, width=width), Setting())
        for width in (64, 2048)  # weights of 16 MiB
    )
    if small is None or large is None:
        pytest.skip("a process may not reset its peak here")
    assert large - small > 12 * 2**20
    assert large < 100 * 2**20, "which PyTorch alone exceeds"
    with pytest.raises(InferenceError, match="measure its memory died"):
        peak_memory(Deadly(), Setting())
