"""A tiny problem that trains in a fraction of a second."""

import pytest
import torch
from torch import nn

from prunus.training import ArrayData


class MaskHook:
    """Removes, at random but from a generator of its own, ever more of the first weights."""

    def __init__(self, model):
        self.model = model
        self.random = torch.Generator().manual_seed(5)
        self.kept = torch.ones(model[0].weight.shape, dtype=torch.bool)
        self.steps = 0

    def penalty(self):
        return 1e-3 * self.model[0].weight.abs().sum()

    def step(self, optimizer):
        self.steps += 1
        if self.steps % 5 == 0:
            self.kept &= torch.rand(self.kept.shape, generator=self.random) < 0.9
        with torch.no_grad():
            self.model[0].weight.mul_(self.kept)

    def state(self):
        return {"kept": self.kept, "random": self.random.get_state(), "steps": self.steps}

    def load_state(self, state):
        self.kept, self.steps = state["kept"], state["steps"]
        self.random.set_state(state["random"])


def tiny_data(**options):
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (66,), generator=random)
    images = torch.randint(128, (66, 3, 6, 6), dtype=torch.uint8, generator=random)
    images[torch.arange(66), labels] += 100
    return ArrayData(
        "tiny",
        train=(images[:56], labels[:56]),
        test=(images[56:], labels[56:]),
        classes=3,
        std=(0.3, 0.3, 0.3),
        **{
            "mean": (0.5, 0.5, 0.5),
            "batch_size": 8,
            "val_size": 16,
            "crop_padding": 1,
            "flip": True,
        }
        | options,
    )


def tiny_model():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


@pytest.fixture
def data():
    return tiny_data()


@pytest.fixture
def data_with():
    return tiny_data


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def mask_hook():
    return MaskHook
