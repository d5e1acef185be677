"""A graph of the user's own modules in which sizes written as constants follow the removal.

`torch.fx` gives the model's forward as a graph over the same submodules, with the same key names
and the same train switch. Its calls are run once under the tracer, so every intermediate tensor
has labels, and from them each constant size has a new value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from prunus.errors import EquivalenceError
from prunus.space.labels import Label
from prunus.space.remove import check_keep, copy_sliced, kept_index
from prunus.space.rules import RULES
from prunus.space.rules.shape import CUT
from prunus.space.space import Space
from prunus.space.tracer import Tracer, record
from prunus.types import Example, Keep


@dataclass(frozen=True)
class Seen:
    """What is known of one tensor of the graph: its labels and its dense shape."""

    labels: list[Label]
    shape: tuple[int, ...]


def rewrite(model: nn.Module, space: Space, keep: Keep, example: Example) -> fx.GraphModule:
    """Return a graph of `model` without the units that `keep` drops.

    Raises:
        EquivalenceError: The forward cannot be traced as a graph, or reads `self.training` outside
            of submodules.
    """
    check_keep(space, keep)
    graph = _trace(model, training=False)
    used = {id(tensor) for tensor in (*graph.parameters(), *graph.buffers())}
    own = (*model.named_parameters(), *model.named_buffers())
    missing = [name for name, tensor in own if id(tensor) not in used]
    if missing or graph.code != _trace(model, training=True).code:
        raise EquivalenceError(
            "its forward does other things in training than in evaluation, outside of submodules"
            + (f" (it leaves out {min(missing)!r})" if missing else "")
            + ", and a graph can hold only one of them."
        )
    seen: dict[str, Any] = {}
    tracer = record(graph, example, RULES, run=lambda tracer: _Labeller(graph, tracer, seen).call)
    index = {name: at for name, at in kept_index(space, keep).items() if (name, 0) in tracer.slots}
    gone = [tracer.labels.new(0)]
    for (name, dim), kept in space.kept_positions(keep).items():
        slot = tracer.slots.get((name, dim))
        if slot is not None and not isinstance(slot.label, str):
            gone.append(slot.label[~kept.numpy()])
    removed = np.unique(tracer.labels.find(np.concatenate(gone)))

    def survivors(label: Label) -> Any:
        return None if isinstance(label, str) else ~np.isin(tracer.labels.find(label), removed)

    small = copy_sliced(graph, index)
    assert isinstance(small, fx.GraphModule)
    for node in small.graph.nodes:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if node.op in ("call_function", "call_method") and name in REWRITES:
            try:
                REWRITES[name](node, seen, survivors)
            except Exception as error:
                raise EquivalenceError(
                    f"its call {node.format_node()} cannot be rewritten."
                ) from error
    small.recompile()
    modes = {name: module.training for name, module in model.named_modules()}
    for name, module in small.named_modules():
        module.training = modes.get(name, model.training)
    return small


def _trace(model: nn.Module, *, training: bool) -> fx.GraphModule:
    modes = {module: module.training for module in model.modules()}
    try:
        model.train(training)
        tracer = _Open()
        return fx.GraphModule(model, tracer.trace(model), type(model).__name__)
    except Exception as error:
        raise EquivalenceError(f"its forward cannot be traced as a graph ({error}).") from error
    finally:
        for module, mode in modes.items():
            module.training = mode


class _Open(fx.Tracer):
    """Looks into the one module of PyTorch's own that holds sizes and nothing else."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Say whether a module stays whole."""
        return not isinstance(module, nn.Unflatten) and super().is_leaf_module(module, name)


class _Labeller(fx.Interpreter):
    """Runs the graph and notes the labels of every node's output."""

    def __init__(self, graph: fx.GraphModule, tracer: Tracer, seen: dict[str, Any]) -> None:
        super().__init__(graph)
        self.tracer = tracer
        self.seen = seen

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run with keyword inputs put in the order of the placeholders."""
        names = [node.target for node in self.graph.nodes if node.op == "placeholder"]
        return self.run(*args, *[kwargs[name] for name in names[len(args) :] if name in kwargs])

    def run_node(self, node: fx.Node) -> Any:
        """Run one node."""
        out = super().run_node(node)
        self.seen[node.name] = tree_map(
            lambda x: Seen(self.tracer.of(x), tuple(x.shape)) if isinstance(x, Tensor) else None,
            out,
        )
        return out


Survivors = Callable[[Label], Any]


def _sizes(node: fx.Node, seen: dict[str, Any], survivors: Survivors) -> None:
    """view, reshape, expand: each size given as a number is counted anew."""
    first, *rest = node.args
    given = list(rest[0]) if len(rest) == 1 and isinstance(rest[0], list | tuple) else rest
    out = seen[node.name]
    if len(given) != len(out.shape):
        return
    sizes = []
    for size, label, dense in zip(given, out.labels, out.shape, strict=True):
        kept = survivors(label)
        if kept is not None and isinstance(size, int) and size > 1:
            size = int(kept.sum())
        elif isinstance(label, str) and label == CUT:
            size = dense  # it may be computed from a size that has changed
        sizes.append(size)
    node.args = (first, tuple(sizes)) if node.op == "call_function" else (first, *sizes)


def _unflattened(node: fx.Node, seen: dict[str, Any], survivors: Survivors) -> None:
    """unflatten: as for view, in the dimensions that are made."""
    out = seen[node.name]
    source, dim, sizes = node.args
    if not isinstance(dim, int) or not isinstance(sizes, list | tuple):
        return
    start = dim % (len(out.shape) - len(sizes) + 1)
    made = [survivors(label) for label in out.labels[start : start + len(sizes)]]
    node.args = (
        source,
        dim,
        tuple(
            size if kept is None else int(kept.sum())
            for size, kept in zip(sizes, made, strict=True)
        ),
    )


def _parts(node: fx.Node, seen: dict[str, Any], survivors: Survivors) -> None:
    """split, chunk: the parts' sizes are given one by one."""
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    if not isinstance(dim, int):
        return
    kept = [survivors(part.labels[dim]) for part in seen[node.name]]
    if any(part is None for part in kept):
        return
    node.op, node.target = "call_function", torch.split
    node.args, node.kwargs = (node.args[0], [int(part.sum()) for part in kept], dim), {}


def _bounds(node: fx.Node, seen: dict[str, Any], survivors: Survivors) -> None:
    """Slices by number: bounds count the survivors before them."""
    source, index = node.args
    tensor = seen[source.name] if isinstance(source, fx.Node) else None
    if not isinstance(tensor, Seen) or not isinstance(index, tuple | slice):
        return
    labels = tensor.labels
    items = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in items:
        at = items.index(Ellipsis)
        missing = len(labels) - sum(item is not None for item in items) + 1
        items[at : at + 1] = [slice(None)] * missing
    dim = 0
    for k, item in enumerate(items):
        if item is None:
            continue
        if isinstance(item, slice) and dim < len(labels):
            kept = survivors(labels[dim])
            numbers = all(isinstance(x, int | None) for x in (item.start, item.stop, item.step))
            if kept is not None and numbers and item.step in (None, 1):
                start, stop, _ = item.indices(len(kept))
                items[k] = slice(int(kept[:start].sum()), int(kept[:stop].sum()))
        dim += 1
    node.args = (source, tuple(items))


REWRITES: dict[str, Callable[[fx.Node, dict[str, Any], Survivors], None]] = {
    "view": _sizes,
    "reshape": _sizes,
    "expand": _sizes,
    "unflatten": _unflattened,
    "split": _parts,
    "split_with_sizes": _parts,
    "chunk": _parts,
    "getitem": _bounds,
}
