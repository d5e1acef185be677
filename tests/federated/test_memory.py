"""A thousand clients in one process stay within the memory of a small machine."""

import subprocess
import sys

import pytest

RUN = """
import resource, sys
from pathlib import Path
from prunus.federated import federate, parse

tables = {
    "name": "many",
    "model": {"name": "prunefl_conv2", "options": {"classes": 10}},
    "clients": {"data": "fashion-mnist-embedded", "count": 1000, "per_round": 10, "batch_size": 8},
    "train": {"length": "1it", "lr": 0.1, "momentum": 0.0},
    "rounds": {"total": 6, "evaluate_every": 6, "judged": 10},
    "method": {"name": "prunefl", "begin": "2it", "end": "4it", "every": "2it"},
}
found = federate(parse(tables), Path(sys.argv[1])).document
assert found["density"] < 1 and all(r["averaged"] == 10 for r in found["rounds"][1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_thousand_clients_of_six_million_weights_hold_in_four_gigabytes(tmp_path):
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kibibytes = int(said.split()[-1])
    print(f"peak {kibibytes / 2**20:.2f} GiB")
    assert kibibytes < 4 * 10**9 / 1024
