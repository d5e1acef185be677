"""One file of a pruned network: safetensors, and in their header what the network is.

The header names the sizes that every module holds. Networks made of PyTorch's own layers, in a row
or called by a recorded graph, are described as a whole. Of others loading takes the dense network's
code, given by the caller; of a rewritten graph the file also says which positions of the dense
tensors stay, and the graph is recorded again.
"""

import copy
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunus.errors import CheckpointError, EquivalenceError, ExportError, PrunusError
from prunus.files import open_tensors, read_tensors, write_tensors
from prunus.pruning import Result
from prunus.saving.description import Untold, describe, rebuild
from prunus.saving.header import FORMAT, Graph, Header, Network, read_header
from prunus.space.attributes import held_sizes
from prunus.space.graph_network import GraphNetwork
from prunus.space.remove import copy_sliced
from prunus.space.rewrite import graph_over
from prunus.space.shrink import as_graph
from prunus.types import Example

_KEPT = "kept positions"  # "kept positions.0.layer.weight": of dimension 0 of layer.weight


def save(model: nn.Module | Result, path: Path | str, example: Example | None = None) -> None:
    """Write a network to one safetensors file, atomically.

    With `example` the file holds the whole network, whatever its class: its forward is recorded as
    a graph of layers of `torch.nn`, as data. So it does without where the network is such a graph,
    or such layers in a row. All else is loaded into the dense network.

    Args:
        model: A pruned network, or a result that holds one. Tied tensors are written once.
        path: Where to.
        example: An input of it, to describe a network of other classes.

    Raises:
        ExportError: `example` is given, but the network cannot be described: its forward cannot be
            recorded, or takes or gives what is no tensor, number, list, tuple or dict of these.
        OSError: The file cannot be written.
    """
    module = model.model if isinstance(model, Result) else model
    whole = module
    if example is not None and not isinstance(module, GraphNetwork):
        try:
            whole = as_graph(module, example)
        except PrunusError as error:
            raise ExportError(_untold(module, error)) from error
    tensors, tied = _held(whole)
    graph = _graph(whole) if isinstance(whole, GraphNetwork) else None
    network, untold = None, ""
    try:
        network = _described(whole, graph, _named(whole))
    except Untold as error:
        if example is not None:
            raise ExportError(_untold(module, error)) from error
        untold = str(error)
    if isinstance(whole, GraphNetwork):
        for name, dims in whole.kept.items():
            tensors |= {f"{_KEPT}.{dim}.{name}": positions for dim, positions in dims.items()}
    origin = whole.origin if isinstance(whole, GraphNetwork) else type(module).__name__
    header = Header(
        origin=origin,
        plan=held_sizes(whole),
        tied=tied,
        graph=graph,
        rewritten=isinstance(module, GraphNetwork),
        network=network,
        untold=untold,
    )
    write_tensors(path, tensors, header.metadata())


def _untold(module: nn.Module, error: Exception) -> str:
    told = f"{type(module).__name__} cannot be described in a file ({str(error).rstrip('.')}); "
    if hasattr(module, "save_pretrained"):
        told += "prunus.integrations.transformers.save_pretrained writes its folder; or "
    return told + "save it without example, and give prunus.load the dense network."


def _named(module: nn.Module) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    return tensors | dict(module.named_buffers(remove_duplicate=False))


def _held(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return each tensor once, and further names of some."""
    first: dict[int, str] = {}
    tensors, tied = dict[str, Tensor](), dict[str, str]()
    for name, tensor in _named(module).items():
        same = first.setdefault(id(tensor), name)
        if same == name:
            tensors[name] = tensor
        else:
            tied[name] = same
    return tensors, tied


def _graph(network: GraphNetwork) -> Graph:
    return Graph(gone=network.gone, only=network.only, text=_digest(network))


def _described(module: nn.Module, graph: Graph | None, tensors: dict[str, Tensor]) -> Network:
    """Describe a network, and prove that the same is made of the description.

    Raises:
        Untold: It is not.
    """
    network = describe(module)
    again = Network.model_validate_json(network.model_dump_json())
    try:
        made = rebuild(again, graph, "", {name: x.detach() for name, x in tensors.items()})
    except Exception as error:
        raise Untold(str(error)) from error
    if isinstance(module, GraphNetwork):
        assert isinstance(made, GraphNetwork)
        ways = [(x.evaluating.source, x.in_training.source) for x in (module, made)]
        if ways[0] != ways[1]:
            raise Untold("its graph comes out another")
    return network


def load(
    path: Path | str,
    model: nn.Module | Callable[[], nn.Module] | None = None,
    example: Example | None = None,
) -> nn.Module:
    """Return a saved network, trainable, with its widths and weights.

    Args:
        path: A file written by `save`.
        model: The dense network that the saved one was pruned from, with any weights, which stays
            as it is; or a function that makes it. Not needed where the file holds the whole
            network.
        example: An input of it; needed where the saved network is a rewritten graph and `model` is
            given, to record the graph again.

    Returns:
        The small network: of the classes of `model`, in its mode and on its device; without it what
        the file describes, in the mode that it was saved in, on the CPU.

    Raises:
        CheckpointError: The file is damaged, was not saved from this kind of network, or does not
            hold the whole network and `model` is missing.
        ValueError: The saved network is a rewritten graph and `example` is missing.
        FileNotFoundError: There is no such file.

    Example::

        prunus.save(result, "small.safetensors", x)
        small = prunus.load("small.safetensors")  # in any process
    """
    tensors, metadata = read_tensors(path)
    header = read_header(path, metadata)
    kept = {name: tensors.pop(name) for name in [*tensors] if name.startswith(f"{_KEPT}.")}
    for name, same in header.tied.items():
        if name in tensors or same not in tensors:
            raise CheckpointError(f"{path} has a damaged header (tied {name[:40]!r}).")
    tensors |= {name: tensors[same] for name, same in header.tied.items()}
    if model is None:
        return _whole(path, header, tensors, kept)
    dense_model = model if isinstance(model, nn.Module) else model()
    return _into(path, dense_model, example, header, tensors, kept)


def is_saved(path: Path | str) -> bool:
    """Say whether `save` wrote a safetensors file; its tensors are not read.

    Raises:
        CheckpointError: The file is damaged.
        FileNotFoundError: There is no such file.
    """
    with open_tensors(path) as file:
        return (file.metadata() or {}).get("format") == FORMAT


def _whole(
    path: Path | str, header: Header, tensors: dict[str, Tensor], kept: dict[str, Tensor]
) -> nn.Module:
    """Make the network that the file describes."""
    if header.network is None:
        why = f", since {header.untold}" if header.untold else ""
        raise CheckpointError(
            f"{path} holds the widths and weights of a {header.origin or 'network'}, but not its "
            f"forward{why}. Pass model=, the dense network it was pruned from or a function that "
            "makes it; or save it with an example."
        )
    try:
        small = rebuild(header.network, header.graph, header.origin, tensors)
    except Exception as error:  # whatever a hostile description makes PyTorch say
        raise CheckpointError(f"{path} has a damaged header ({str(error)[:300]}).") from error
    if isinstance(small, GraphNetwork):
        for key, positions in kept.items():
            dim, _, name = key.removeprefix(f"{_KEPT}.").partition(".")
            if not dim.isdecimal() or positions.dtype != torch.int64 or positions.ndim != 1:
                raise CheckpointError(f"{path} has a damaged header ({key[:60]!r}).")
            small.kept.setdefault(name, {})[int(dim)] = positions
    return small


def _into(
    path: Path | str,
    model: nn.Module,
    example: Example | None,
    header: Header,
    tensors: dict[str, Tensor],
    kept: dict[str, Tensor],
) -> nn.Module:
    """Return a copy of a dense network with the saved widths and weights."""
    if header.rewritten and header.graph is not None:
        if example is None:
            raise ValueError(
                f"{path} holds a rewritten graph, which is recorded again while the dense network "
                "runs; pass example=, an input of it."
            )
        small: nn.Module = _recorded(path, model, kept, header.graph, example)
    else:
        small = copy.deepcopy(model)
        if header.graph is not None:  # what only the recorded graph of it has
            tensors = {name: x for name, x in tensors.items() if name not in _extra(header, small)}
    dense = _named(small)
    if dense.keys() != tensors.keys():
        odd = sorted(dense.keys() ^ tensors.keys())
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: {len(odd)} tensors are in only one of "
            f"them, such as {odd[0]!r}. Pass the dense network it was pruned from."
        )
    for name, layer in small.named_modules():
        for key, value in header.plan.get(name, {}).items():
            setattr(layer, key, value)
    replaced: dict[int, Tensor] = {}
    taken: set[int] = set()
    for name, old in dense.items():
        tensor = tensors[name]
        if old.ndim != tensor.ndim or old.dtype != tensor.dtype or old.numel() < tensor.numel():
            raise CheckpointError(
                f"{path}: {name!r} has shape {tuple(tensor.shape)} and {tensor.dtype}, which the "
                f"network's {tuple(old.shape)} and {old.dtype} cannot have been pruned to."
            )
        if id(old) not in replaced:
            # Tied in the file only: apart, as the network has them.
            new = tensor.clone() if id(tensor) in taken else tensor
            taken.add(id(tensor))
            new = new.to(old.device)
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, requires_grad=old.requires_grad)
            replaced[id(old)] = new
        owner, _, leaf = name.rpartition(".")
        setattr(small.get_submodule(owner), leaf, replaced[id(old)])
    return small


def _extra(header: Header, model: nn.Module) -> set[str]:
    """Return the constants of a graph that a model does not have as buffers."""
    buffers = header.network.buffers if header.network is not None else {}
    return {name for name, stored in buffers.items() if not stored} - _named(model).keys()


def _recorded(
    path: Path | str,
    model: nn.Module,
    kept: dict[str, Tensor],
    header: Graph,
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
        small = graph_over(copy_sliced(model, index), model, index, example, header.gone)
    except EquivalenceError as error:
        raise CheckpointError(f"{path} does not fit {type(model).__name__}: {error}") from error
    if _digest(small) != header.text:
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: its forward is another than that of the "
            "network that was pruned, or the example goes another way. Build the network with the "
            "same arguments."
        )
    small.only = header.only
    return small


def _digest(network: GraphNetwork) -> str:
    """Return a few digits that stand for the numbers in a graph, such as how many heads it has.

    Names of calls differ where a network was pruned in several goes.
    """
    numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?", network.evaluating.source)
    return hashlib.sha256(" ".join(numbers).encode()).hexdigest()[:16]
