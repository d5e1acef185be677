"""A dataset small enough for a run of a second, which can do something before any batch."""

import torch

from prunus.training import ArrayData


class TinyData(ArrayData):
    """`at` maps a batch to what happens before it, once."""

    at: dict = {}  # noqa: RUF012

    def train_batches(self, epoch, start=0):
        for number, batch in enumerate(super().train_batches(epoch, start), start):
            self.at.pop(epoch * self.steps_per_epoch + number, lambda: None)()
            yield batch


def build_tiny_data(*, batch_size, seed, val_size=None, **options):
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (500, 1, 28, 28), generator=random, dtype=torch.uint8)
    samples = (images, torch.randint(10, (500,), generator=random))
    sizes = {"batch_size": batch_size, "val_size": 100 if val_size is None else val_size}
    return TinyData("tiny", samples, samples, 10, (0.5,), (0.3,), **sizes, seed=seed)


def build_perplexing_data(**options):
    data = build_tiny_data(**options)
    data.metric = "perplexity"
    return data


STUDY = {
    "name": "small",
    "model": {"name": "lenet300"},
    "data": {"name": "fashion-mnist-embedded", "batch_size": 50},
    "train": {"length": "8it", "lr": 0.05, "checkpoint_every": "3it"},
    "finetune": {"length": "4it", "lr": 0.05},
    "study": {
        "methods": ["l1_filter"],
        "targets": {"macs": [0.5]},
        "seeds": 2,
        "arms": ["pruned", "fine_tuned", "scratch_e"],
    },
}
"""The tables of a study that takes seconds on it."""

SEARCH = {
    **{name: STUDY[name] for name in ("model", "data", "train")},
    "name": "found",
    "finetune": {"length": "4it", "lr": 0.05, "eval_every": "1it", "checkpoint_every": "1it"},
    "method": {"name": "l1_filter", "round_to": 1},
    "tune": {
        "search": {
            "target.macs": {"low": 0.3, "high": 0.9},
            "finetune.lr": {"low": 0.01, "high": 0.1, "log": True},
        },
        "trials": 3,
        "startup": 2,
    },
}
"""The tables of a search that takes seconds on it."""
