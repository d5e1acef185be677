"""What README.md and docs/how-to/deliver.md claim in figures, and the command that shows each.

A claim is a piece of the text, so that one that is changed or dropped is noticed here, too; the
commands are run in the repository, and print the figures or fail; some take hours.

    python benchmarks/claims.py              # list them
    python benchmarks/claims.py --run 4      # run the fourth's command
"""

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
README, DELIVER = "README.md", "docs/how-to/deliver.md"


@dataclass(frozen=True)
class Claim:
    """A piece of a page, and what shows that it is true.

    Args:
        page: The file that says so.
        text: As it stands there, line breaks as blanks.
        command: What shows it, run in the repository.
    """

    page: str
    text: str
    command: str


TESTS = "pytest -p no:cacheprovider -q"
ALL_TESTS = f"{TESTS} -m 'slow or not slow'"

CLAIMS = (
    Claim(
        README,
        "masked and small network agree in float64 to 1e-10",
        f"{TESTS} tests/space/test_equality.py tests/space/test_in_training.py",
    ),
    Claim(README, "interleaved with the dense network", f"{TESTS} tests/deploy/test_timing.py"),
    Claim(
        README,
        "ends bit-identical on the CPU",
        f"{ALL_TESTS} tests/app/test_killed_runs.py tests/training/test_resume.py",
    ),
    Claim(README, "a minute or two: train, prune, prove, export, time, report", "prunus demo"),
    Claim(
        README,
        "How small may also be how fast, which is measured, not modelled",
        "python benchmarks/latency_targets.py",
    ),
    Claim(README, "[zeros run fast](docs/engine.md)", "python benchmarks/sparse_engine.py"),
    Claim(
        README,
        "1.97 times as fast (1.94 to 2.21), 8.84 times in int8 where the dense one in int8 is 7.10",
        "python benchmarks/shrink_speed.py torchvision:resnet50",
    ),
    Claim(README, "20 of 20 within 5 %", "python benchmarks/latency_targets.py"),
    Claim(
        README,
        "102 MB become 9.3 MB, to the bit; 3.7 MB in int8",
        "python benchmarks/file_size.py",
    ),
    Claim(
        README,
        "536 lost half their units, and three quarters",
        "python benchmarks/coverage.py --known",  # without --known all rows are made anew
    ),
    Claim(README, "Nothing is trained twice", "python benchmarks/study_speed.py"),
    Claim(
        README,
        "Each of them against random pruning at equal cost, three seeds",
        "python benchmarks/learns.py",
    ),
    Claim(
        DELIVER,
        "both take any batch size, and are checked against",
        "python benchmarks/onnx_coverage.py",
    ),
    Claim(
        DELIVER,
        "ResNet-50's 102 MB become 9.3 MB to the bit, 3.7 MB with `--values int8`",
        "python benchmarks/file_size.py",
    ),
    Claim(
        DELIVER,
        "nothing of which is executed or unpickled when it is read",
        f"{ALL_TESTS} tests/pruning/test_saving_hostile.py tests/pruning/test_saving_whole.py",
    ),
    Claim(
        DELIVER,
        "nothing in it is ever executed",
        f"{ALL_TESTS} tests/deploy/test_packing_hostile.py",
    ),
)


def stands(claim: Claim) -> bool:
    """Whether the page says so."""
    return claim.text in " ".join((ROOT / claim.page).read_text(encoding="utf-8").split())


def main(options: argparse.Namespace) -> int:
    """List the claims, or run what shows one; return the command's status."""
    if options.run is None:
        for number, claim in enumerate(CLAIMS, 1):
            missing = "" if stands(claim) else " (which no longer says so)"
            print(f"{number:2} {claim.page}{missing}: {claim.text}\n   {claim.command}")
        return 0 if all(map(stands, CLAIMS)) else 1
    command = shlex.split(CLAIMS[options.run - 1].command)
    if command[0] == "python":
        command[0] = sys.executable
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", type=int, choices=range(1, len(CLAIMS) + 1), metavar="NUMBER")
    sys.exit(main(parser.parse_args()))
