import pytest
import torch

from prunus import zoo
from prunus.training import ArrayData

RECIPE = """
name = "tiny"
[model]
name = "lenet300"
[data]
name = "fashion-mnist-embedded"
batch_size = 50
[train]
length = "12it"
lr = 0.05
eval_every = "4it"
checkpoint_every = "3it"
[finetune]
length = "6it"
lr = 0.05
[method]
name = "l1_filter"
[target]
macs = 0.5
[export]
onnx = false
"""


class TinyData(ArrayData):
    """A dataset small enough for a run of a second; `at` maps a batch to what happens before it."""

    at: dict = {}  # noqa: RUF012

    def train_batches(self, epoch, start=0):
        for number, batch in enumerate(super().train_batches(epoch, start), start):
            self.at.pop(epoch * self.steps_per_epoch + number, lambda: None)()
            yield batch


def build_tiny_data(*, batch_size, seed, **options):
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (500, 1, 28, 28), generator=random, dtype=torch.uint8)
    samples = (images, torch.randint(10, (500,), generator=random))
    return TinyData(
        "tiny", samples, samples, 10, (0.5,), (0.3,), batch_size=batch_size, val_size=100, seed=seed
    )


@pytest.fixture
def before_step(monkeypatch):
    """Training step, from 0 -> what happens before it, once."""
    monkeypatch.setattr(TinyData, "at", {})
    return TinyData.at


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The path of a recipe that runs in about a second."""
    monkeypatch.setattr(zoo, "dataset", build_tiny_data)
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path
