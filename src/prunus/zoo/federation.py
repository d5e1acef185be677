"""Datasets cut by who made them, for federated learning."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from prunus.training.data import ArrayData, Data
from prunus.zoo import omniglot, shakespeare
from prunus.zoo.datasets import DATASETS, local_folder
from prunus.zoo.readers import read_idx, read_writers


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
