"""A graph of the user's own layers in which sizes written as constants follow the removal.

The forward is recorded as a graph (see `capture`) while every tensor has its labels, so each
constant size has a new value. In train mode it is recorded once more; where that gives another
graph, the small network has both.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from prunus.errors import EquivalenceError, UntraceableError
from prunus.space.branches import drop, without
from prunus.space.capture import recorded
from prunus.space.decisions import put_in
from prunus.space.graph_network import GraphNetwork, Program
from prunus.space.inputs import doubled
from prunus.space.precision import Named, follow_parameters, named
from prunus.space.recording import Recording, Seen
from prunus.space.remove import kept_index
from prunus.space.running import copied, held_tensors, preserved
from prunus.space.sizes import After, follow
from prunus.space.space import Space
from prunus.space.tracer import Tracer
from prunus.types import Example, Keep


def rewrite(
    model: nn.Module, space: Space, keep: Keep, example: Example, small: nn.Module
) -> GraphNetwork:
    """Return a graph of `model` over the layers of `small`, which lacks what `keep` drops.

    Raises:
        EquivalenceError: The forward cannot be recorded as a graph, or a size in it cannot follow.
    """
    gone = [branch.name for branch in space.gone(keep)]
    return graph_over(small, model, kept_index(space, keep), example, gone, space.recording)


def graph_over(
    small: nn.Module,
    model: nn.Module,
    index: dict[str, dict[int, Tensor]],
    example: Example,
    gone: Sequence[str] = (),
    recording: Recording | None = None,
) -> GraphNetwork:
    """Return a graph of `model` over the layers of `small`, a copy reduced to `index`.

    Args:
        small: Gives its layers to the graph.
        model: Stays as it was.
        index: Tensor name -> dimension -> positions that stay, int64, ascending.
        example: An input of `model`.
        gone: Names of residual branches to go without.
        recording: The model's graph in eval mode, where it is known; stays as it was.

    Raises:
        EquivalenceError: The forward cannot be recorded as a graph, or a size in it cannot follow.
    """
    evaluating = (recording or _recorded(model, example)).required().copy()
    training = _in_training(model, example, evaluating)
    unread: list[set[str]] = []
    for each, mode in ((evaluating, False), (training, True)):
        if mode and training is evaluating:
            break
        instead = _as_large(each) if gone else {}
        unread.append(without(each, model, gone))
        in_double = partial(_named_in_double, model, example, training=mode)
        follow_parameters(each.graph, model, in_double, unread[-1])
        put_in(each.graph, each.sizes(), instead)
        _follow(each, index)
        each.graph.lint()
    drop(small, set.intersection(*unread))
    programs = {id(each): Program.of(each) for each in (evaluating, training)}
    return GraphNetwork(
        small,
        programs[id(evaluating)],
        programs[id(training)],
        evaluating.constants | training.constants,
        tuple(dict.fromkeys((*evaluating.ways(), *training.ways()))),
        _since_dense(model, index),
        (*(model.gone if isinstance(model, GraphNetwork) else ()), *gone),
        _evaluating_in_training(model),
    )


def _evaluating_in_training(model: nn.Module) -> tuple[str, ...]:
    """Return the modules that the model keeps in eval mode when it is trained."""
    with preserved(model, training=True):
        return tuple(name for name, module in model.named_modules() if name and not module.training)


def _in_training(model: nn.Module, example: Example, evaluating: Recording) -> Recording:
    """Record the model in train mode, or return the same graph where that calls the same."""
    held = {id(tensor): tensor for tensor in held_tensors(model)}
    found = _without_values(model, example, training=True)
    if found is not None:
        recording, copies = found
        constants = {
            name: copies[id(tensor)] is recording.constants.get(name)
            for name, tensor in evaluating.constants.items()
            if id(tensor) in held
        }
        if all(constants.values()) and recording.text() == evaluating.text():
            return evaluating
    return _recorded(model, example, training=True, like=evaluating.tracer)


def _recorded(
    model: nn.Module, example: Example, *, training: bool = False, like: Tracer | None = None
) -> Recording:
    failures: list[Exception] = []
    for given in (example, doubled(example)) if training else (example,):
        try:
            tracer = like and like.alike()
            return recorded(model, given, training=training, tracer=tracer).required()
        except (UntraceableError, EquivalenceError) as error:
            failures.append(error)
    raise EquivalenceError(str(failures[0])) from failures[0]  # of the example as it was given


def _without_values(
    model: nn.Module, example: Example, *, training: bool, double: bool = False
) -> tuple[Recording, dict[int, Tensor]] | None:
    """Record the calls of a copy whose tensors have shapes only; None where that fails.

    Returns:
        The recording, and the tensors of the copy by the `id` of the model's.
    """

    def empty(x: Tensor) -> Tensor:
        dtype = torch.float64 if double and x.is_floating_point() else x.dtype
        made = torch.empty_like(x, dtype=dtype, device="meta")
        return nn.Parameter(made, x.requires_grad) if isinstance(x, nn.Parameter) else made

    copies = {id(x): empty(x) for x in held_tensors(model)}
    empties = copied(model, dict(copies))
    given = tree_map_only(Tensor, empty, example)
    for batch in (given, doubled(given)) if training else (given,):
        try:
            with _Shapes():
                found = recorded(empties, batch, training=training, labelled=False)
            return found.required(), copies
        except (UntraceableError, EquivalenceError):
            continue
    return None


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


class _Shapes(TorchFunctionMode):
    """Knows the shapes that two common functions give; PyTorch takes longer to tell."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make an empty tensor, or run `func`."""
        if func is torch.nn.functional.linear and len(args) > 1 and args[1].ndim == 2:
            return args[0].new_empty((*args[0].shape[:-1], args[1].shape[0]))
        if func is torch.nn.functional.layer_norm and args:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


def _named_in_double(model: nn.Module, example: Example, *, training: bool) -> Named:
    """Return what the calls of a float64 copy name; nothing where it cannot be run."""
    without_values = _without_values(model, example, training=training, double=True)
    if without_values is not None:
        return named(without_values[0].graph)
    given = tree_map_only(Tensor, lambda x: x.double() if x.is_floating_point() else x, example)
    try:
        return named(_recorded(copied(model).double(), given, training=training).graph)
    except EquivalenceError:
        return {}  # it has operations that know no float64, and keeps the precision it has


def _as_large(recording: Recording) -> dict[str, list[str]]:
    """Return for each call its inputs of the same shape, one of which a branch leaves over."""

    def shape(node: fx.Node) -> Any:
        seen = recording.seen.get(node.name)
        return seen.shape if isinstance(seen, Seen) else None

    return {
        node.name: [x.name for x in node.all_input_nodes if shape(x) == shape(node) is not None]
        for node in recording.graph.nodes
    }


def what_stays(recording: Recording, index: dict[str, dict[int, Tensor]]) -> After:
    """Return what tensors and numbers of a recording are where only `index` stays."""
    return After(recording, recording.tracer.lost(index))


def _follow(recording: Recording, index: dict[str, dict[int, Tensor]]) -> None:
    """Let every size in the graph be what it is without the removed positions."""
    after = what_stays(recording, index)
    for node in recording.graph.nodes:
        follow(node, after)
