"""Datasets cut by who made them, for federated learning."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from prunus.training.data import ArrayData, Data, FolderData
from prunus.zoo import omniglot, shakespeare
from prunus.zoo.datasets import DATASETS, local_folder
from prunus.zoo.readers import read_idx, read_writers

Images = ArrayData | FolderData
"""What can be divided: images with one label each."""


def clients(
    name: str,
    *,
    by: str,
    batch_size: int,
    seed: int = 0,
    root: Path | str | None = None,
) -> dict[str, Data]:
    """Load a dataset cut by who made it, for federated learning; see `dataset`.

    Clients of images share the test images of the whole; a speaking role is tested on its own last
    words.

    Args:
        name: "mnist" by "writer" (539, by the labels of QMNIST), "omniglot" by "alphabet" (8) or by
            "writer" (128), or "shakespeare" by "role" (445 with 2,000 characters or more).
        by: What makes a client.
        batch_size: Images, or pieces of text, per batch.
        seed: Of the order.
        root: The first folder to look in.

    Raises:
        ValueError: There is no such dataset, or it is not known who made what.
        DataError: Files are missing or damaged.
    """
    if (name, by) not in _CLIENTS:
        known = ", ".join(f"{name!r} by {by!r}" for name, by in _CLIENTS)
        raise ValueError(f"{name!r} cannot be cut by {by!r}; known are {known}.")
    folder, load = _CLIENTS[name, by]
    found = load(local_folder(name, folder, root), batch_size=batch_size, seed=seed)
    return dict(found)


def divided(
    data: Images, count: int, *, alpha: float | None = None, seed: int = 0
) -> dict[str, Images]:
    """Divide training samples among clients by chance; all keep the other splits.

    Source: the unequal division is that of Hsu, Qi and Brown, 2019, arXiv:1909.06335, section 3, by
    classes rather than by clients, so that every sample belongs to one client.

    Args:
        data: With one label per sample.
        count: Number of clients; those that get no samples are left out.
        alpha: Each class is divided in proportions of a symmetric Dirichlet distribution with this
            parameter; None divides all samples equally.
        seed: Of the division.

    Raises:
        ValueError: There are more clients than samples.
    """
    labels = data.train_labels
    if not 1 <= count <= len(labels):
        raise ValueError(f"count must be in [1, {len(labels)}], the training samples, got {count}.")
    chance = np.random.default_rng([seed, count])
    owner = np.arange(len(labels)) % count
    if alpha is None:
        chance.shuffle(owner)
    else:
        for label in range(data.classes):
            own = np.flatnonzero(labels.numpy() == label)
            ends = np.cumsum(chance.dirichlet([alpha] * count))[:-1] * len(own)
            owner[chance.permutation(own)] = np.searchsorted(ends, np.arange(len(own)), "right")
    digits = len(str(count - 1))
    return {
        f"{k:0{digits}}": data.with_training(mine, name=f"{data.name} client {k}")
        for k in range(count)
        if len(mine := torch.from_numpy(np.flatnonzero(owner == k)))
    }


def _mnist_writers(folder: Path, *, batch_size: int, seed: int) -> Mapping[str, Data]:
    (images, labels), test = read_idx(folder, "train"), read_idx(folder, "test")
    writers, entry = read_writers(folder), DATASETS["mnist"]
    return {
        str(writer): ArrayData(
            *(f"mnist writer {writer}", (images[mine], labels[mine]), test, 10),
            *(entry.mean, entry.std),
            batch_size=batch_size,
            seed=seed,
        )
        for writer in sorted(set(writers.tolist()))
        for mine in [writers == writer]
    }


_CLIENTS: dict[tuple[str, str], tuple[str, Callable[..., Mapping[str, Data]]]] = {
    ("mnist", "writer"): ("mnist", _mnist_writers),
    ("omniglot", "alphabet"): ("omniglot", partial(omniglot.clients, by="alphabet")),
    ("omniglot", "writer"): ("omniglot", partial(omniglot.clients, by="writer")),
    ("shakespeare", "role"): ("shakespeare", shakespeare.roles),
}
