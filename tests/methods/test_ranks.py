import os
import subprocess
import sys
from pathlib import Path

import prunus.methods


def test_two_ranks_with_data_of_their_own_agree_for_every_method(tmp_path):
    source = Path(prunus.methods.__file__).parents[2]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
            *("--standalone", Path(__file__).with_name("ranked_pruning.py"), tmp_path),
        ],
        env={**os.environ, "PYTHONPATH": str(source), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(found) == 4 * len(prunus.methods.METHODS)
    for name, content in found.items():
        if "-0-" in name:
            assert content == found[name.replace("-0-", "-1-")], name
