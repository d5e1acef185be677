"""What a network answers to a whole dataset."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from prunus.modes import modes_kept


@torch.no_grad()
def predict(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return a network's logits and the labels, in evaluation mode and where the network is.

    Args:
        model: Left in the modes in which it was.
        batches: Inputs and labels, such as `data.eval_batches("val")`.

    Returns:
        Logits (samples, classes) and labels (samples,).

    Raises:
        ValueError: There are no batches.
    """
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    logits, labels = [], []
    with modes_kept(model):
        model.eval()
        for inputs, own in batches:
            logits.append(model(inputs.to(device)))
            labels.append(own.to(device))
    if not logits:
        raise ValueError("there must be at least one batch to predict, got none.")
    return torch.cat(logits), torch.cat(labels)
