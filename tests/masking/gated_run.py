"""Gates trained by one rank or several; started by torchrun or alone."""

import sys
from pathlib import Path

import torch
from torch import nn

from prunus import Pruner, Target
from prunus.files import write_tensors
from prunus.methods import METHODS
from prunus.training import ArrayData, TrainSettings, fit

NAMES = {"gate": {"macs": 0.5}, "l0": {"macs": 0.5}, "movement": {"sparsity": 0.5}}


def main(directory):
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (64,), generator=random)
    images = torch.randint(128, (64, 3, 6, 6), dtype=torch.uint8, generator=random)
    images[torch.arange(64), labels] += 100
    arrays = (images[:48], labels[:48]), (images[48:], labels[48:])
    data = ArrayData(
        "tiny",
        train=arrays[0],
        test=arrays[1],
        classes=3,
        mean=(0.5, 0.5, 0.5),
        std=(0.3, 0.3, 0.3),
        batch_size=8,
        val_size=0,
    )
    found = {}
    for name, target in NAMES.items():
        torch.manual_seed(1)
        model = nn.Sequential(
            *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
        )
        method = METHODS[name](**{"end" if name == "movement" else "begin": "1000it"})
        pruner = Pruner(model, images[:1].float(), method, target=Target(**target))
        fit(model, data, TrainSettings(length="12it", lr=0.05), hook=pruner)
        found |= {f"{name}.{key}": value for key, value in model.state_dict().items()}
        found[f"{name}.values"] = pruner.state()["masking.values"]
    ranks = torch.distributed.is_initialized()
    rank = torch.distributed.get_rank() if ranks else 0
    write_tensors(directory / f"rank{rank}.safetensors", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
