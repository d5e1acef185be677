"""The examples run as they stand, for a part of their time."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_a_hugging_face_vit_becomes_smaller(tmp_path):
    pytest.importorskip("transformers")
    command = [sys.executable, EXAMPLES / "huggingface_vit.py", "--epochs", "0.1"]
    done = subprocess.run(
        [*command, "--out", tmp_path], capture_output=True, text=True, check=True
    ).stdout
    assert "original classes, macs 0.5 asked, 0.4986 reached" in done
    smaller, dense = tmp_path / "smaller.onnx", tmp_path / "dense.onnx"
    assert smaller.stat().st_size < 0.7 * dense.stat().st_size
