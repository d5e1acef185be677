"""Calls that name a precision or a device, as `torch.zeros(4, dtype=x.dtype)` does.

A graph has them as constants; where they are those of the parameters, they go on to follow them.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeAlias

import torch
from torch import fx, nn

Named: TypeAlias = dict[str, list[Any]]
"""Call -> the precisions and devices that it names as constants, in order."""


def named(graph: fx.Graph) -> Named:
    """Return what the calls of a graph name."""
    found: Named = {}
    for node in graph.nodes:
        leaves: list[Any] = []
        fx.node.map_aggregate((node.args, node.kwargs), leaves.append)
        found[node.name] = [x for x in leaves if isinstance(x, torch.dtype | torch.device)]
    return found


def rename(graph: fx.Graph, named: Named) -> None:
    """Let the calls of a graph name other precisions and devices."""
    for node in graph.nodes:
        following = iter(named.get(node.name, ()))

        def other(x: Any, following: Iterator[Any] = following) -> Any:
            return next(following, x) if isinstance(x, torch.dtype | torch.device) else x

        if named.get(node.name):
            node.args = fx.node.map_aggregate(node.args, other)
            node.kwargs = fx.node.map_aggregate(node.kwargs, other)


def follow_parameters(
    graph: fx.Graph, model: nn.Module, in_double: Callable[[], Named], gone: Collection[str] = ()
) -> None:
    """Let calls that name the parameters' device or precision go on to follow the parameters.

    Args:
        graph: Is changed.
        model: Whose first floating-point parameter is the one to follow.
        in_double: Returns what the same calls name where the parameters are in float64; asked only
            where it is needed. A precision that is another there is that of the parameters.
        gone: Names of parameters that will not be there.
    """
    floating = [
        (name, p)
        for name, p in model.named_parameters()
        if p.is_floating_point() and name not in gone
    ]
    own = named(graph)
    if not floating or not any(own.values()):
        return
    name, first = floating[0]
    doubles = in_double() if any(first.dtype in names for names in own.values()) else {}
    if any(len(doubles.get(call, ())) != len(names) for call, names in own.items()):
        doubles = own  # other calls: no precision is known to follow
    start = next(node for node in graph.nodes if node.op != "placeholder")
    with graph.inserting_before(start):
        parameter = graph.get_attr(name)
        dtype, device = (graph.call_function(getattr, (parameter, x)) for x in ("dtype", "device"))

    def followed(x: Any, in_double: Any) -> Any:
        if isinstance(x, torch.device):
            return device if x == first.device else x
        return dtype if x is first.dtype and in_double is torch.float64 else x

    rename(graph, {k: list(map(followed, x, doubles.get(k, x))) for k, x in own.items()})
    for node in (dtype, device, parameter):
        if not node.users:
            graph.erase_node(node)
