"""Saving a pruned network and getting it back for further training, without pickle.

The file is safetensors: the small tensors, and in its header the sizes that every module holds.
Loading takes the dense network's code, given by the caller, and puts both into it. Of a rewritten
graph it also holds which positions of the dense tensors stay; the graph is recorded again.
"""

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunus.errors import CheckpointError, EquivalenceError
from prunus.files import read_tensors, write_tensors
from prunus.pruning import Result
from prunus.space.attributes import SIZES
from prunus.space.graph_network import GraphNetwork
from prunus.space.remove import copy_sliced
from prunus.space.rewrite import graph_over
from prunus.types import Example

_KEPT = "kept positions"  # "kept positions.0.layer.weight": of dimension 0 of layer.weight

_FORMAT = "prunus-1"


def save(model: nn.Module | Result, path: Path | str) -> None:
    """Write a network's tensors and widths to one safetensors file, atomically.

    Args:
        model: A pruned network, or a result that holds one.
        path: Where to.

    Raises:
        OSError: The file cannot be written.
    """
    module = model.model if isinstance(model, Result) else model
    plan: dict[str, dict[str, Any]] = {}
    for name, layer in module.named_modules():
        widths = {
            key: value
            for key in SIZES
            if isinstance(value := getattr(layer, key, None), int | tuple)
        }
        if widths:
            plan[name] = widths
    tensors: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    tensors.update(module.named_buffers(remove_duplicate=False))
    if isinstance(module, GraphNetwork):
        for name, dims in module.kept.items():
            tensors |= {f"{_KEPT}.{dim}.{name}": positions for dim, positions in dims.items()}
    metadata = {"format": _FORMAT, "plan": json.dumps(plan)}
    if isinstance(module, GraphNetwork):
        metadata["graph"] = json.dumps(
            {"gone": module.gone, "only": module.only, "text": _digest(module)}
        )
    write_tensors(path, tensors, metadata)


def load(path: Path | str, model: nn.Module, example: Example | None = None) -> nn.Module:
    """Return a copy of the dense network `model` with the saved widths and weights.

    Args:
        path: A file written by `save`.
        model: The dense network the saved one was pruned from, with any weights; it stays as it is.
        example: An input of it; needed where the saved network is a rewritten graph, to record the
            graph again.

    Returns:
        The small network, trainable, in `model`'s mode and on its device.

    Raises:
        CheckpointError: The file is damaged, or was not saved from this kind of network.
        ValueError: The saved network is a rewritten graph and `example` is missing.
        FileNotFoundError: There is no such file.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} was not written by prunus.save (format {metadata.get('format')!r}); plain "
            "weights are loaded with prunus.zoo.load_weights."
        )
    kept = {name: tensors.pop(name) for name in [*tensors] if name.startswith(f"{_KEPT}.")}
    recorded = "graph" in metadata
    if recorded and example is None:
        raise ValueError(
            f"{path} holds a rewritten graph, which is recorded again while the dense network "
            "runs; pass example=, an input of it."
        )
    if recorded:
        small = _graph(path, model, kept, _graph_header(path, metadata), example)
    else:
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
            setattr(layer, key, tuple(value) if isinstance(value, list) else value)
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


def _graph(
    path: Path | str,
    model: nn.Module,
    kept: dict[str, Tensor],
    header: dict[str, Any],
    example: Any,
) -> nn.Module:
    """Record the dense network without what the saved one has lost."""
    index: dict[str, dict[int, Tensor]] = {}
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for key, positions in kept.items():
        dim, _, name = key.removeprefix(f"{_KEPT}.").partition(".")
        known = dim.isdecimal() and name in shapes and int(dim) < len(shapes[name])
        known = known and positions.dtype == torch.int64 and positions.ndim == 1
        if not (known and len(positions)) or not (
            0 <= int(positions.min()) <= int(positions.max()) < shapes[name][int(dim)]
        ):
            raise CheckpointError(
                f"{path} does not fit {type(model).__name__}: it keeps positions of dimension "
                f"{dim} of {name!r} that are not there. Pass the dense network it was pruned from."
            )
        index.setdefault(name, {})[int(dim)] = positions
    try:
        small = graph_over(copy_sliced(model, index), model, index, example, header["gone"])
    except EquivalenceError as error:
        raise CheckpointError(f"{path} does not fit {type(model).__name__}: {error}") from error
    if _digest(small) != header["text"]:
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: its forward is another than that of the "
            "network that was pruned, or the example goes another way. Build the network with the "
            "same arguments."
        )
    only = header["only"]
    small.only = (
        None if only is None else tuple(tuple(tuple(shape) for shape in way) for way in only)
    )
    return small


def _digest(network: GraphNetwork) -> str:
    """Return a few digits that stand for the numbers in a graph, such as how many heads it has.

    Names of calls differ where a network was pruned in several goes.
    """
    numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?", network.evaluating.source)
    return hashlib.sha256(" ".join(numbers).encode()).hexdigest()[:16]


def _graph_header(path: Path | str, metadata: dict[str, str]) -> dict[str, Any]:
    """Read which branches are gone, what sizes are taken, and what the graph must be."""
    try:
        header = json.loads(metadata["graph"])
        names, only = header["gone"], header["only"]
        shapes = [size for way in only or [] for shape in way for size in shape]
        known = isinstance(names, list) and isinstance(header["text"], str)
        if not known or not all(isinstance(name, str) for name in names):
            raise ValueError("unknown branches")
        if not all(size is None or isinstance(size, int) for size in shapes):
            raise ValueError("unknown sizes")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has a damaged header ({error}).") from error
    return header  # type: ignore[no-any-return]


def _plan(path: Path | str, metadata: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Read the widths from the header; anything but known names with counts is refused."""
    try:
        plan = json.loads(metadata.get("plan", ""))
        for widths in plan.values():
            for key, value in widths.items():
                numbers = value if isinstance(value, list) else [value]
                if key not in SIZES or any(type(n) is not int or n < 0 for n in numbers):
                    raise ValueError("unknown attribute")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} has a damaged header ({error}).") from error
    result: dict[str, dict[str, Any]] = plan
    return result
