"""Training a specialist; see `prunus.recovery.specialists`."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from prunus.recovery import Coarse, Distillation, SoftTargets, specialist
from prunus.training import ArrayData, TrainSettings, fit


def train_specialist(
    generalist: nn.Module,
    data: ArrayData,
    classes: Sequence[int],
    settings: TrainSettings,
    *,
    classifier: str,
    soft: SoftTargets | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return a network for some classes that began as the generalist and learned from it.

    Half of its training samples are of these classes, half are drawn from the rest. So that its
    dustbin is as probable as the rest really is, its bias is raised afterwards by the log of the
    factor by which the classes were oversampled. Source: arXiv:1503.02531, sections 5.2 and 6.1.

    Args:
        generalist: A network for all classes; not changed.
        data: Of all classes.
        classes: The specialist's.
        settings: How it is trained.
        classifier: Name of the generalist's last layer, such as "fc".
        soft: How it learns from the generalist, which keeps it from learning its few samples by
            heart; temperature 1, at which the generalist's dustbin is exact, by default.
        seed: Of the samples drawn and of the training.

    Raises:
        DataError: There is no training sample of these classes.
        ValueError: The classes are not some of all classes, or classifier is not a linear layer.
    """
    network = specialist(generalist, classes, classifier)
    labels = torch.full((data.classes,), len(classes))
    labels[list(classes)] = torch.arange(len(classes))
    special = labels[data.train_labels] < len(classes)
    rest = (~special).nonzero()[:, 0]
    random = torch.Generator().manual_seed(seed)
    drawn = rest[torch.randperm(len(rest), generator=random)[: int(special.sum())]]
    oversampled = len(rest) / max(1, len(drawn))
    transfer = data.with_training(
        torch.cat([special.nonzero()[:, 0], drawn]),
        name=f"{data.name} for {list(classes)}",
        labels=labels,
    )
    teacher = Coarse(generalist, classes, oversampled)
    soft = SoftTargets(temperature=1) if soft is None else soft
    fit(network, transfer, settings, seed=seed, objective=Distillation(teacher, soft))
    with torch.no_grad():
        network.get_parameter(f"{classifier}.bias")[-1] += math.log(oversampled)
    return network
