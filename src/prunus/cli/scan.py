"""`prunus inspect --sensitivity`: the scan, and its table."""

from itertools import islice
from typing import TYPE_CHECKING

from prunus.cli import samples as named
from prunus.cli.show import print_table

# torch is imported where it is needed, so that --help comes at once.
if TYPE_CHECKING:
    from torch import nn

    from prunus.pruning import Sensitivity
    from prunus.types import Example


def check_scan(data: str | None, samples: int, method: str, *, asked: bool) -> None:
    """Refuse at once what `scan` could not do.

    Args:
        data: As for `scan`.
        samples: As for `scan`.
        method: As for `scan`.
        asked: Whether there is to be a scan.

    Raises:
        ValueError: No data were named, or not for a scan; or another argument is wrong.
    """
    from prunus.pruning.scan import ranking

    if not asked:
        raise ValueError("--data is for --sensitivity, which measures accuracy; add that.")
    if data is None:
        raise ValueError("--sensitivity measures accuracy; name a dataset, as --data cifar10.")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}.")
    named.check(data)
    ranking(method)


def scan(
    network: "nn.Module",
    example: "Example",
    data: str,
    samples: int,
    method: str,
    *,
    progress: bool,
) -> "Sensitivity":
    """Measure the accuracy on validation samples with each layer alone pruned.

    Args:
        network: The trained network.
        example: An input of it.
        data: A dataset of the zoo, or "folder:PATH".
        samples: How many to measure on; all of the split where it has fewer.
        method: Its units and its criterion.
        progress: Draw how far it is.

    Raises:
        ValueError: There are no validation samples.
    """
    import torch

    from prunus.criteria import Calibration
    from prunus.modes import modes_kept
    from prunus.pruning import sensitivity

    source = named.read(data, example, min(samples, 100))
    batches = list(islice(source.eval_batches("val"), -(-samples // min(samples, 100))))
    if not batches:
        raise ValueError(f"{source.name} has no validation samples to measure accuracy on.")

    @torch.no_grad()
    def accuracy(model: "nn.Module") -> float:
        with modes_kept(model):
            model.eval()
            right = torch.cat([model(x).argmax(dim=1) == y for x, y in batches])[:samples]
        return int(right.sum()) / len(right)

    return sensitivity(
        network,
        example,
        accuracy,
        method=method,
        calibration=Calibration.of(source),
        progress=progress,
    )


def print_sensitivity(found: "Sensitivity") -> None:
    """Print every other accuracy in per cent, and how far each layer can go alone."""
    from prunus.report.quantities import percent
    from prunus.report.sensitivity import TOLERANCE

    largest = found.largest(TOLERANCE)
    single = all(layer.thresholds for layer in found.layers)
    q = found.q(TOLERANCE) if single else {}
    print_table(
        f"Accuracy in % with one layer pruned, without training (dense {100 * found.dense:.1f}); "
        f"limit: up to there at most {percent(TOLERANCE, 0)} is lost",
        (
            "layer",
            *(f"{100 * share:g} %" for share in found.sparsities[1::2]),
            "limit",
            *(["q"] if single else []),
        ),
        [
            (
                layer.name,
                *(f"{100 * value:.1f}" for value in layer.values[1::2]),
                percent(largest[layer.name], 0),
                *([f"{q[layer.name]:.2f}"] if single else []),
            )
            for layer in found.layers
        ],
    )
