"""What a user's model is under its wrappers, and whether it is ready."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from prunus.errors import UntraceableError
from prunus.types import Example


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside `torch.compile`, `DistributedDataParallel` and `DataParallel`."""
    while isinstance(model, OptimizedModule | DistributedDataParallel | DataParallel):
        inner = model._orig_mod if isinstance(model, OptimizedModule) else model.module
        assert isinstance(inner, nn.Module)
        model = inner
    return model


def refuse_unready(model: nn.Module, example: Example | list[Any]) -> None:
    """Refuse what cannot be run.

    Raises:
        TypeError: The example is a list, which may stand for inputs one by one or for one input.
        UntraceableError: A parameter has no values yet, the network is a script or was exported, or
            the example is empty.
    """
    if isinstance(example, list):
        raise TypeError(
            "example must be a tensor, a tuple of positional inputs or a dict of keyword inputs, "
            "got a list; pass (example,) where the model takes the list as one input, as detectors "
            "take ([image],), and tuple(example) where it takes its parts one by one."
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise UntraceableError(
            "a network made by torch.jit.script or torch.jit.trace cannot be looked into; prune "
            "the network it was made of, and script the result."
        )
    if isinstance(model, fx.GraphModule) and "train" in vars(model):
        raise UntraceableError(
            "a network made by torch.export has one mode only, and sizes as constants; prune the "
            "network that was exported, and export the result."
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise UntraceableError(
                f"{name!r} has no shape yet, as its layer is a lazy one; run the model once on an "
                "input, so that all layers know their sizes."
            )
        if tensor.is_meta:
            raise UntraceableError(
                f"{name!r} is on the meta device and has no values; load the weights first."
            )
    for leaf in tree_leaves(example):
        if isinstance(leaf, Tensor) and leaf.numel() == 0:
            raise UntraceableError(
                f"the example holds an empty tensor of shape {tuple(leaf.shape)}; pass at least "
                "one sample."
            )
