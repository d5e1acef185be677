import json
import os
import subprocess
import sys
from pathlib import Path

import prunus
from prunus.ranks import alone, first, from_first


def test_alone_a_process_is_the_first_and_does_it_itself():
    assert alone()
    assert first()
    assert from_first(lambda: 7) == 7


def test_the_first_rank_alone_measures_and_its_failure_leaves_nobody_waiting(tmp_path):
    source = Path(prunus.__file__).parents[1]
    ranks = [
        subprocess.Popen(
            [
                *(sys.executable, Path(__file__).with_name("ranked_time.py")),
                *(str(rank), tmp_path / "meeting"),
            ],
            env={**os.environ, "PYTHONPATH": str(source), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [json.loads(rank.communicate(timeout=240)[0]) for rank in ranks]
    assert said[0] == [0.5, [0.5], "ValueError: the clock stands still", "from 0"]
    told = "RankError: the first rank failed with ValueError: the clock stands still"
    assert said[1] == [0.5, [], told, "from 0"]
