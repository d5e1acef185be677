"""What a small network learns from a large one (Hinton, Vinyals and Dean, arXiv:1503.02531).

On MNIST: a teacher of 1200-1200 units with dropout, its images shifted by up to two pixels;
students of 800-800 units without either, from labels and from the teacher's soft targets, and from
soft targets without any image of a three; and students of 30-30 units at several temperatures.
Every training goes on where it was stopped, and `measured.csv` is written anew after each.

    python experiments/2015-hinton-distillation/distil.py [--seeds 3] [--dir runs]
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from prunus import zoo
from prunus.recovery import Distillation, SoftTargets, predict
from prunus.study import distil_without
from prunus.training import ArrayData, Objective, TrainSettings, fit

HERE = Path(__file__).parent
TEACHER = TrainSettings(length="40ep", lr=0.02, schedule="cosine")
STUDENT = TrainSettings(length="20ep", lr=0.02, schedule="cosine")
TEMPERATURES = (1.0, 2.5, 4.0, 8.0, 20.0)
FIELDS = ("network", "targets", "temperature", "seed", "errors", "errors_on_threes", "shift")
Row = dict[str, object]


def network(units: int, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Dropout(dropout / 2),
        *(nn.Linear(784, units), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(units, units), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(units, 10),
    )


def images(seed: int, shift: int = 0) -> ArrayData:
    data = zoo.dataset("mnist", batch_size=100, seed=seed, val_size=5000)
    assert isinstance(data, ArrayData)
    data.crop_padding = shift
    return data


def errors(model: nn.Module, data: ArrayData) -> int:
    logits, labels = predict(model, data.eval_batches("test"))
    return int((logits.argmax(1) != labels).sum())


def trained(
    units: int,
    seed: int,
    folder: Path,
    *,
    settings: TrainSettings = STUDENT,
    objective: Objective | None = None,
    dropout: float = 0.0,
    shift: int = 0,
) -> nn.Module:
    torch.manual_seed(seed)
    model = network(units, dropout)
    data = images(seed, shift)
    fit(model, data, settings, seed=seed, directory=folder, objective=objective)
    return model


def without_threes(teacher: nn.Module, seed: int) -> Row:
    torch.manual_seed(seed)
    student = network(800)
    (last,) = [name for name, p in student.named_parameters() if len(p) == 10 and p.ndim == 1]
    found = distil_without(teacher, student, images(seed), [3], STUDENT, bias=last, seed=seed)
    return {
        "errors": f"{found.errors[0]} -> {found.errors[1]}",
        "errors_on_threes": f"{found.errors_on_missing[0]} -> {found.errors_on_missing[1]}",
        "shift": f"{found.shift:.2f}",
    }


def rows(seeds: int, root: Path) -> Iterator[Row]:
    data = images(0)
    teacher = trained(1200, 0, root / "teacher", settings=TEACHER, dropout=0.5, shift=2)
    yield {"network": "1200-1200", "targets": "labels", "errors": errors(teacher, data)}
    for seed in range(seeds):
        plain = trained(800, seed, root / f"labels-{seed}")
        row: Row = {"network": "800-800", "seed": seed}
        yield row | {"targets": "labels", "errors": errors(plain, data)}
        objective = Distillation(teacher, SoftTargets(temperature=20, hard_weight=0.0))
        soft = trained(800, seed, root / f"soft-{seed}", objective=objective)
        found = {"temperature": 20.0, "errors": errors(soft, data)}
        yield row | {"targets": "soft"} | found
    for seed in range(seeds):
        row = {"network": "30-30", "seed": seed}
        small = trained(30, seed, root / f"small-labels-{seed}")
        yield row | {"targets": "labels", "errors": errors(small, data)}
        for temperature in TEMPERATURES:
            objective = Distillation(teacher, SoftTargets(temperature=temperature, hard_weight=0.0))
            folder = root / f"small-{temperature:g}-{seed}"
            small = trained(30, seed, folder, objective=objective)
            found = {"temperature": temperature, "errors": errors(small, data)}
            yield row | {"targets": "soft"} | found
    for seed in range(seeds):
        row = {"network": "800-800", "targets": "soft, no threes", "temperature": 20.0}
        yield row | {"seed": seed} | without_threes(teacher, seed)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path("runs"))
    options = parser.parse_args()
    done: list[Row] = []
    for row in rows(options.seeds, options.dir / "2015-hinton-distillation"):
        done.append(row)
        print(*(f"{key} {value}" for key, value in row.items()), flush=True)
        with (HERE / "measured.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, FIELDS, restval="")
            table.writeheader()
            table.writerows(done)


if __name__ == "__main__":
    main()
