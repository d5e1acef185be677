"""Run PruneFL and what it is compared with, and write measured.csv.

python experiments/2019-jiang-prunefl/run.py --runs runs --seeds 3 --others 3

A run that was stopped goes on when the same command is given again, and what is done is not done
again; the table is written after each run. Every seed begins with PruneFL, whose final density the
other methods are given, and with federated averaging of the dense network, whose final accuracy
says which levels are to be reached; then PruneFL with the first pruning at the server, as in the
first version of the paper, whose seconds are not those of a device.
"""

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunus.federated import Finished, federate, load

HERE = Path(__file__).parent
RECIPE = HERE.parents[1] / "recipes" / "prunefl-mnist.toml"
SCALE = [
    *("rounds.total=50", "rounds.evaluate_every=2", "rounds.evaluate_one_in=5", "rounds.judged=0"),
    *("clients.per_round=5", "clients.held_out=0.0"),
    *("initial.rounds=50", "initial.every=1", "initial.look=1"),
    *("method.begin=5it", "method.end=45it", "method.every=5it", "method.halvings=0"),
]
"""A two-hundredth of the paper's 10,000 rounds. Its 50 rounds between reconfigurations become one
where one party prunes alone, the least there is; in the federation five, since whatever is summed
up travels then, which once in 50 rounds weighs little."""
ALONE = ["initial.rounds=0"]
ARMS: dict[str, list[str]] = {
    "prunefl": [],
    "at_server": ["initial.where='server'"],
    "dense": [*ALONE, "method={name='dense'}"],
    "no_initial": ALONE,
    "iterative": [*ALONE, "method={name='iterative', end='25it', prunings=5}"],
    "snip": [*ALONE, "method={name='snip'}"],
    "random": [*ALONE, "method={name='random'}"],
    "synflow": [*ALONE, "method={name='synflow'}"],
    "online": [*ALONE, "method={name='online', begin='5it', end='45it', every='5it'}"],
    "ticket": [*ALONE, "method={name='ticket', mask='MASK'}"],
    "reinit": [*ALONE, "method={name='ticket', mask='MASK'}", "init=1000"],
    "shuffled": [*ALONE, "method={name='ticket', mask='MASK', shuffled=true}"],
}
"""Arm -> what it changes of the recipe. MASK is the one that PruneFL found with the same seed."""
FIRST = ("prunefl", "dense", "at_server")
"""Arms that every seed begins with."""
SIZED = ("iterative", "snip", "random", "synflow")
"""Arms that are given PruneFL's final density."""
LEVELS = (0.8, 0.9, 0.95)
"""Shares of the final accuracy of federated averaging, for which the time is told."""
COLUMNS = (
    *("method", "seed", "rounds", "accuracy", "density", "seconds", "megabytes"),
    *("seconds_alone", "seconds_80", "seconds_90", "seconds_95"),
)


def main() -> None:
    """Run the arms that are asked for, then write the table of all that are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--seeds", type=int, default=3, help="of PruneFL, dense and at_server")
    parser.add_argument("--others", type=int, default=3, help="seeds of all other arms")
    given = parser.parse_args()
    if given.others > given.seeds:
        parser.error("--others must be at most --seeds: the other arms go by PruneFL's result")
    done: dict[tuple[str, int], Finished] = {}
    firsts = [(arm, seed) for seed in range(given.seeds) for arm in FIRST]
    others = [(arm, seed) for seed in range(given.others) for arm in ARMS if arm not in FIRST]
    for arm, seed in (*firsts, *others):
        done[arm, seed] = run(arm, seed, given.runs, done.get(("prunefl", seed)))
        if ("dense", seed) in done:
            write(done)


def run(arm: str, seed: int, runs: Path, pruned: Finished | None) -> Finished:
    """Run one arm; `pruned` is PruneFL with the same seed."""
    changes = [*SCALE, f"seed={seed}", f"name='{arm}'"]
    if pruned is not None:
        mask = pruned.directory / "mask.safetensors"
        changes += [change.replace("MASK", str(mask)) for change in ARMS[arm]]
    if pruned is not None and arm in SIZED:
        changes.append(f"target.density={pruned.document['density']:.6f}")
    return federate(load(RECIPE, changes), runs, tell=told(arm))


def write(done: Mapping[tuple[str, int], Finished]) -> None:
    """Write the table of all that is done with seeds whose dense network is."""
    with (HERE / "measured.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for arm in ARMS:
            for own, seed in done:
                if own == arm and ("dense", seed) in done:
                    found, dense = done[arm, seed].document, done["dense", seed].document
                    writer.writerow(row(arm, seed, found, dense))


def told(arm: str) -> Any:
    """Return what prints a line for each evaluated round."""

    def tell(record: Mapping[str, Any]) -> None:
        if record.get("accuracy") is not None:
            print(
                f"{arm} round {record['round']}: {record['accuracy']:.2%}, density "
                f"{record['density']:.3f}, {record['simulated_seconds']:,.0f} s",
                flush=True,
            )

    return tell


def row(
    arm: str, seed: int, found: Mapping[str, Any], dense: Mapping[str, Any]
) -> dict[str, str | int]:
    """Return one line of the table; times are of the simulated clock, from its beginning."""
    records = [one for one in found["rounds"] if one.get("accuracy") is not None]
    times = {}
    for level in LEVELS:
        wanted = level * dense["accuracy"]
        first = next((one for one in records if one["accuracy"] >= wanted), None)
        times[f"seconds_{level * 100:.0f}"] = (
            "" if first is None else f"{first['simulated_seconds']:.0f}"
        )
    traffic = found["traffic"]
    return {
        "method": arm,
        "seed": seed,
        "rounds": records[-1]["round"],
        "accuracy": f"{100 * found['accuracy']:.2f}",
        "density": f"{found['density']:.4f}",
        "seconds": f"{found['simulated_seconds']:.0f}",
        "megabytes": f"{(traffic['down'] + traffic['up']) / 1e6:.1f}",
        "seconds_alone": f"{records[0]['simulated_seconds']:.0f}",
        **times,
    }


if __name__ == "__main__":
    main()
