"""Run a recipe many times, each killed at another moment and then run again; print what was left.

A script of its own, so that the libraries are imported once, in a process that has never started a
thread and can therefore be forked. Arguments: recipe, folder, kills, seed. Prints JSON.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from prunus import zoo
from prunus.recipe import load
from prunus.run import run
from prunus.training import ArrayData

torch.set_num_threads(1)


def tiny_data(*, batch_size: int, seed: int, **options: object) -> ArrayData:
    """Stand in for the dataset, whose images take longer to read than the whole run."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (500, 1, 28, 28), generator=random, dtype=torch.uint8)
    samples = (images, torch.randint(10, (500,), generator=random))
    return ArrayData(
        "tiny", samples, samples, 10, (0.5,), (0.3,), batch_size=batch_size, val_size=100, seed=seed
    )


zoo.dataset = tiny_data


def start(recipe: Path, root: Path) -> int:
    """Run the recipe in a child process and return its id."""
    if child := os.fork():
        return child
    try:
        run(load(recipe), root)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def digests(root: Path) -> dict[str, str]:
    """Hash every file that must not depend on when the run was killed."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in ("weights.safetensors", "mask.safetensors", "*.metrics.jsonl", "result.json")
        for path in sorted(root.rglob(pattern))
        if path.parent.name != "seed-0"  # the run's own result.json has the date
    }


def main(recipe: Path, folder: Path, kills: int, seed: int) -> None:
    run(load(recipe), folder / "first")  # pays for everything that is imported when first needed
    begin = time.perf_counter()
    assert os.waitpid(start(recipe, folder / "whole"), 0)[1] == 0
    duration = time.perf_counter() - begin
    expected = digests(folder / "whole")
    moments = random.Random(seed)
    outcomes = []
    for number in range(kills):
        root = folder / str(number)
        child = start(recipe, root)
        time.sleep(moments.uniform(0, duration))
        os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        done = sorted(path.parent.name for path in root.rglob("result.json"))
        whole = os.waitpid(start(recipe, root), 0)[1] == 0 and digests(root) == expected
        stray = [str(path) for path in root.rglob(".*.tmp")]
        outcomes.append({"killed": killed, "done": done, "whole": whole, "stray": stray})
    print(json.dumps({"duration": duration, "files": sorted(expected), "outcomes": outcomes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
