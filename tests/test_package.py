"""What `import prunus` gives, and what it does not wait for."""

import subprocess
import sys

PROGRAM = """
import sys
import prunus
assert "torch" not in sys.modules
assert prunus.masking.Hard and prunus.recovery.SoftTargets and prunus.criteria.Calibration
assert prunus.pruning.prune is prunus.prune and prunus.selectors.TopK
"""


def test_rooms_that_are_written_of_are_there_after_importing_prunus_without_its_waiting_for_torch():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
