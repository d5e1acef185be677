"""A graph of the user's own layers in which sizes written as constants follow the removal.

The forward is recorded as a graph (see `capture`) while every tensor has its labels, so each
constant size has a new value. In train mode it is recorded once more; where that gives another
graph, the small network has both.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map_only

from prunus.errors import EquivalenceError, UntraceableError
from prunus.space.capture import GraphRecorder, Recording
from prunus.space.graph_network import GraphNetwork, Program
from prunus.space.inputs import doubled
from prunus.space.remove import check_keep, copy_sliced, kept_index
from prunus.space.rules import RULES
from prunus.space.sizes import REWRITES, After
from prunus.space.space import Space
from prunus.space.tracer import Tracer, record
from prunus.types import Example, Keep


def rewrite(model: nn.Module, space: Space, keep: Keep, example: Example) -> GraphNetwork:
    """Return a graph of `model` without the units that `keep` drops.

    Raises:
        EquivalenceError: The forward cannot be recorded as a graph, or a size in it cannot follow.
    """
    check_keep(space, keep)
    return graph_without(model, kept_index(space, keep), example)


def graph_without(
    model: nn.Module, index: dict[str, dict[int, Tensor]], example: Example
) -> GraphNetwork:
    """Return a graph of `model` with its tensors reduced to `index`.

    Args:
        model: Stays as it was.
        index: Tensor name -> dimension -> positions that stay, int64, ascending.
        example: An input of `model`.

    Raises:
        EquivalenceError: The forward cannot be recorded as a graph, or a size in it cannot follow.
    """
    evaluating, tracer = _record(model, example, training=False)
    training, _ = _record(model, example, training=True, labelled=False)
    if [*map(str, evaluating.graph.nodes)] == [*map(str, training.graph.nodes)]:
        training.seen, also = evaluating.seen, tracer  # the same calls, so the same sizes
    else:
        training, also = _record(model, example, training=True)
    for recording, labels, mode in ((evaluating, tracer, False), (training, also, True)):
        follow_parameters(recording.graph, model, partial(_in_double, model, example, mode))
        _follow(recording, labels, index)
        recording.graph.lint()
    return GraphNetwork(
        copy_sliced(model, index),
        Program.of(evaluating),
        Program.of(training),
        evaluating.constants | training.constants,
        tuple(sorted(evaluating.decisions)),
        _since_dense(model, index),
    )


def _since_dense(
    model: nn.Module, index: dict[str, dict[int, Tensor]]
) -> dict[str, dict[int, Tensor]]:
    """Return what stays of the network that was recorded first, if `model` is a graph itself."""
    if not isinstance(model, GraphNetwork):
        return index
    since = {name: dict(dims) for name, dims in model.kept.items()}
    for name, dims in index.items():
        for dim, positions in dims.items():
            before = since.setdefault(name, {}).get(dim)
            since[name][dim] = positions if before is None else before[positions]
    return since


def _record(
    model: nn.Module, example: Example, *, training: bool, labelled: bool = True
) -> tuple[Recording, Tracer]:
    """Record the model in one mode, with the labels of what it computes or without."""
    recorders: list[GraphRecorder] = []

    def run(tracer: Tracer) -> Callable[..., Any]:
        recorders.append(GraphRecorder(model, tracer))
        return lambda *args, **kwargs: recorders[-1].run(model, args, kwargs)

    for given in (example, doubled(example)) if training else (example,):
        try:
            tracer = record(model, given, RULES, run=run, training=training, labelled=labelled)
            return recorders[-1].recording, tracer
        except (UntraceableError, EquivalenceError) as error:
            failure = error
    raise EquivalenceError(f"its forward cannot be recorded as a graph ({failure}).") from failure


def _in_double(model: nn.Module, example: Example, training: bool) -> list[fx.Node]:
    """Record a copy in float64: a float64 in its calls is there because the parameters are."""
    given = tree_map_only(Tensor, lambda x: x.double() if x.is_floating_point() else x, example)
    copied = copy.deepcopy(model).double()
    try:
        recording, _ = _record(copied, given, training=training, labelled=False)
    except EquivalenceError:
        return []  # it has operations that know no float64, and keeps the precision it has
    return list(recording.graph.nodes)


def follow_parameters(
    graph: fx.Graph, model: nn.Module, in_double: Callable[[], list[fx.Node]]
) -> None:
    """Let calls that name the parameters' device or precision go on to follow the parameters.

    Args:
        graph: Is changed.
        model: Whose first floating-point parameter is the one to follow.
        in_double: Returns the calls of the same graph recorded in float64, when they are needed.
    """
    floating = [(name, p) for name, p in model.named_parameters() if p.is_floating_point()]
    if not floating:
        return
    name, first = floating[0]

    def constants(node: fx.Node) -> list[Any]:
        found: list[Any] = []
        fx.node.map_aggregate((node.args, node.kwargs), lambda x: found.append(x))
        return [x for x in found if isinstance(x, torch.dtype | torch.device)]

    nodes = [node for node in graph.nodes if constants(node)]
    if not nodes:
        return
    following: set[tuple[int, int]] = set()
    if any(first.dtype in constants(node) for node in nodes):
        every, twins = list(graph.nodes), in_double()
        if [node.op for node in every] == [twin.op for twin in twins]:
            following = {
                (id(node), k)
                for node, twin in zip(every, twins, strict=True)
                for k, (x, y) in enumerate(zip(constants(node), constants(twin), strict=False))
                if x is first.dtype and y is torch.float64
            }
    start = next(node for node in graph.nodes if node.op != "placeholder")
    with graph.inserting_before(start):
        parameter = graph.get_attr(name)
        own = {key: graph.call_function(getattr, (parameter, key)) for key in ("dtype", "device")}
    for node in nodes:
        count = iter(range(len(constants(node))))

        def followed(x: Any, node: fx.Node = node, count: Any = count) -> Any:
            if not isinstance(x, torch.dtype | torch.device):
                return x
            k = next(count)
            if isinstance(x, torch.device):
                return own["device"] if x == first.device else x
            return own["dtype"] if (id(node), k) in following else x

        node.args = fx.node.map_aggregate(node.args, followed)
        node.kwargs = fx.node.map_aggregate(node.kwargs, followed)


def _follow(recording: Recording, tracer: Tracer, index: dict[str, dict[int, Tensor]]) -> None:
    """Let every size in the graph be what it is without the removed positions."""
    gone = [tracer.labels.new(0)]
    for name, dims in index.items():
        for dim, positions in dims.items():
            label = tracer.slots[name, dim].label
            if not isinstance(label, str):
                gone.append(np.delete(label, positions.numpy()))
    after = After(recording, tracer.labels.followers(np.concatenate(gone)))
    for node in recording.graph.nodes:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        rewriting = REWRITES.get(name.strip("_")) if node.op.startswith("call_") else None
        if "size" in node.meta:
            after.evaluate(node)
        elif rewriting is None or node.op == "call_module":
            after.keep_numbers(node)
        else:
            try:
                rewriting(node, after)
            except Exception as error:
                raise EquivalenceError(
                    f"its call {node.format_node()} cannot be rewritten."
                ) from error
