"""The examples run as they stand, or for a part of their time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def test_the_code_of_how_to_distil_runs_in_the_order_of_its_page(capsys):
    page = (ROOT / "docs" / "how-to" / "distil.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == capsys.readouterr().out.count("\n") == 4
    assert names["found"].errors[1] <= names["found"].samples / 2


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
