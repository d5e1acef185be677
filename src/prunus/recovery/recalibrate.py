"""Batch-norm statistics measured anew, after weights changed without training."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from prunus.modes import modes_kept
from prunus.types import Example, call_arguments


@torch.no_grad()
def recalibrate_batch_norm(
    model: nn.Module, inputs: Iterable[Example], *, batches: int | None = None
) -> int:
    """Replace running means and variances by their plain averages over batches.

    Only batch norms are in training mode meanwhile; everything else is evaluated. Momentum and
    modes are put back, and if anything fails, the old statistics too.

    Args:
        model: Changed in place.
        inputs: Batches as the model takes them; moved to the model's device.
        batches: Use so many at most; None for all.

    Returns:
        The number of batch norms recalibrated; 0 if the model has none with running statistics.

    Raises:
        ValueError: There are no batches.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
    if batches is not None and batches < 1:
        raise ValueError(f"batches must be at least 1, got {batches}; leave it out for all.")
    if not norms:
        return 0
    old = [({k: v.clone() for k, v in norm.named_buffers()}, norm.momentum) for norm in norms]
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    seen = 0
    done = False
    with modes_kept(model):
        model.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            # Without a momentum the running statistics are cumulative averages.
            norm.momentum = None
        try:
            for example in islice(inputs, batches):
                moved = tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), example)
                positional, keyword = call_arguments(moved)
                model(*positional, **keyword)
                seen += 1
            if not seen:
                raise ValueError("batch norm needs at least one batch of inputs, got none.")
            done = True
        finally:
            for norm, (buffers, momentum) in zip(norms, old, strict=True):
                norm.momentum = momentum
                if not done:
                    norm.load_state_dict(buffers, strict=False)
    return len(norms)
