"""Saving a pruned network and getting it back for further training, without pickle.

The file is safetensors: the small tensors, and in its header the integer attributes of every module
that changed. Loading takes the dense network's code, given by the caller, and puts both into it.
"""

import copy
import json
from pathlib import Path

from torch import Tensor, nn

from prunus.errors import CheckpointError
from prunus.files import read_tensors, write_tensors
from prunus.pruning import Result
from prunus.space.capture import GraphNetwork

ATTRIBUTES = (
    "in_channels",
    "out_channels",
    "groups",
    "in_features",
    "out_features",
    "num_features",
    "num_channels",
    "num_groups",
    "embedding_dim",
)
"""Integer attributes of PyTorch's layers that follow the shapes of their tensors."""

_FORMAT = "prunus-1"


def save(model: nn.Module | Result, path: Path | str) -> None:
    """Write a network's tensors and widths to one safetensors file, atomically.

    Args:
        model: A network made of the original's own classes, or a result that holds one.
        path: Where to.

    Raises:
        ValueError: The network is a rewritten graph, which no code of the caller's can rebuild.
        OSError: The file cannot be written.
    """
    module = model.model if isinstance(model, Result) else model
    if isinstance(module, GraphNetwork):
        raise ValueError(
            "a rewritten graph has no class to load into; export it instead "
            "(prunus.deploy.export_onnx, or torch.export.save)."
        )
    plan: dict[str, dict[str, int]] = {}
    for name, layer in module.named_modules():
        widths = {
            key: value for key in ATTRIBUTES if isinstance(value := getattr(layer, key, None), int)
        }
        if widths:
            plan[name] = widths
    tensors: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    tensors.update(module.named_buffers(remove_duplicate=False))
    write_tensors(path, tensors, {"format": _FORMAT, "plan": json.dumps(plan)})


def load(path: Path | str, model: nn.Module) -> nn.Module:
    """Return a copy of the dense network `model` with the saved widths and weights.

    Args:
        path: A file written by `save`.
        model: The dense network the saved one was pruned from, with any weights; it stays as it is.

    Returns:
        The small network, trainable, in `model`'s mode and on its device.

    Raises:
        CheckpointError: The file is damaged, or was not saved from this kind of network.
        FileNotFoundError: There is no such file.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} was not written by prunus.save (format {metadata.get('format')!r}); plain "
            "weights are loaded with prunus.zoo.load_weights."
        )
    small = copy.deepcopy(model)
    dense: dict[str, Tensor] = dict(small.named_parameters(remove_duplicate=False))
    dense.update(small.named_buffers(remove_duplicate=False))
    if dense.keys() != tensors.keys():
        odd = sorted(dense.keys() ^ tensors.keys())
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: {len(odd)} tensors are in only one of "
            f"them, such as {odd[0]!r}. Pass the dense network it was pruned from."
        )
    plan = _plan(path, metadata)
    for name, layer in small.named_modules():
        for key, value in plan.get(name, {}).items():
            setattr(layer, key, value)
    replaced: dict[int, Tensor] = {}
    for name, old in dense.items():
        tensor = tensors[name]
        if old.ndim != tensor.ndim or old.dtype != tensor.dtype or old.numel() < tensor.numel():
            raise CheckpointError(
                f"{path}: {name!r} has shape {tuple(tensor.shape)} and {tensor.dtype}, which the "
                f"network's {tuple(old.shape)} and {old.dtype} cannot have been pruned to."
            )
        new = replaced.setdefault(id(old), tensor.to(old.device))
        if isinstance(old, nn.Parameter) and not isinstance(new, nn.Parameter):
            new = replaced[id(old)] = nn.Parameter(new, requires_grad=old.requires_grad)
        owner, _, leaf = name.rpartition(".")
        setattr(small.get_submodule(owner), leaf, new)
    return small


def _plan(path: Path | str, metadata: dict[str, str]) -> dict[str, dict[str, int]]:
    """Read the widths from the header; anything but known names with counts is refused."""
    try:
        plan = json.loads(metadata.get("plan", ""))
        for widths in plan.values():
            if not all(key in ATTRIBUTES and type(n) is int and n > 0 for key, n in widths.items()):
                raise ValueError("unknown attribute")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} has a damaged header ({error}).") from error
    result: dict[str, dict[str, int]] = plan
    return result
