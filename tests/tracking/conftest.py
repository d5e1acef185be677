import pytest

from prunus.tracking import Tracked


@pytest.fixture
def tracked():
    """Describe the run that every test logs."""
    return lambda: Tracked("lenet", "lenet-1a2b/seed-0", "0123456789", {"seed": 0, "train.lr": 0.1})


@pytest.fixture
def records():
    """Return the first records of a training."""

    def make(count):
        return [
            {"step": 4 * k, "epoch": k / 2, "train_loss": 1 / k, "val_accuracy": None, "lr": 0.1}
            for k in range(1, count + 1)
        ]

    return make
