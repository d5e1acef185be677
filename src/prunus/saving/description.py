"""A network as its file describes it: PyTorch's own layers, and the graph that calls them.

What cannot be described so, such as a forward that takes or returns classes of its own, needs the
dense network's code to be loaded.
"""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_structure, tree_unflatten

from prunus.saving.header import Called, Graph, Layer, Network
from prunus.space.calls import graph_of, value_of, value_told
from prunus.space.capture import is_layer
from prunus.space.graph_network import GraphNetwork, Program

_UNNAMED = ("self", "device", "dtype", "mode")

KINDS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in vars(nn).values()
    if isinstance(kind, type)
    and issubclass(kind, nn.Module)
    and kind.__module__.startswith("torch.nn.modules")
    and not kind.__name__.startswith(("Lazy", "Parameter", "Transformer", "Multihead"))
    and not kind.__name__.endswith(("Loss", "Base"))
    and kind.__name__ not in ("Module", "AdaptiveLogSoftmaxWithLoss", "Container")
    and not issubclass(kind, nn.ModuleList | nn.ModuleDict | nn.Sequential)
}
"""Layers that a file can name: those that hold no others."""


class Untold(Exception):
    """A network that its file cannot describe, with the reason."""


def describe(model: nn.Module) -> Network:
    """Describe a network.

    Args:
        model: A graph, or layers of PyTorch's in a row.

    Raises:
        Untold: It is neither, or holds what has no place in a file.
    """
    graphs: tuple[Called, ...] = ()
    called = None
    if isinstance(model, GraphNetwork):
        same = model.in_training is model.evaluating
        programs = [model.evaluating] if same else [model.evaluating, model.in_training]
        graphs = tuple(map(_called, programs, ("", " in train mode")))
        called = {call[2] for each in graphs for call in each.calls if call[0] == "call_module"}
    persistent = set(model.state_dict(keep_vars=True))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return Network(
        layers=dict(_layers(model, called)),
        buffers={
            name: name in persistent for name, _ in model.named_buffers(remove_duplicate=False)
        },
        frozen=tuple(name for name, x in parameters.items() if not x.requires_grad),
        training=model.training,
        graphs=graphs,
        decisions=model.decisions if isinstance(model, GraphNetwork) else (),
        evaluating_always=_evaluating(model),
    )


def _evaluating(model: nn.Module) -> tuple[str, ...]:
    always = model.evaluating_always if isinstance(model, GraphNetwork) else ()
    now = (name for name, x in model.named_modules() if model.training and not x.training)
    return tuple(dict.fromkeys((*always, *now)))


def _called(program: Program, mode: str) -> Called:
    if isinstance(program.calls, str):
        raise Untold(program.calls + mode)
    try:
        return Called(
            calls=program.calls,
            inputs=program.inputs,
            fixed={name: value_told(value) for name, value in program.fixed.items()},
            parameters=tuple(map(_parameter_told, program.parameters)),
            outputs=_nesting_told(program.spec),
            nested={name: _nesting_told(spec) for name, spec in program.nested.items()},
        )
    except ValueError as error:
        raise Untold(f"{error}{mode}") from error


def _parameter_told(parameter: inspect.Parameter) -> tuple[str, str, tuple[Any, ...]]:
    absent = parameter.default is inspect.Parameter.empty
    default = () if absent else (value_told(parameter.default),)
    return parameter.name, parameter.kind.name, default


def _parameter_of(told: tuple[str, str, tuple[Any, ...]]) -> inspect.Parameter:
    name, kind, default = told
    if kind not in ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY") or len(default) > 1:
        raise ValueError("an unknown kind of input")
    if not name.isascii() or name == "self":
        raise ValueError("inputs must have plain names")
    given = value_of(default[0]) if default else inspect.Parameter.empty
    return inspect.Parameter(name, getattr(inspect.Parameter, kind), default=given)


def _nesting_told(spec: TreeSpec) -> Any:
    return value_told(tree_unflatten([*range(spec.num_leaves)], spec))


def _nesting_of(told: Any) -> TreeSpec:
    return tree_structure(value_of(told))


def _layers(model: nn.Module, called: set[str] | None) -> Iterator[tuple[str, Layer]]:
    """Yield every module, parents before children.

    Args:
        model: The network.
        called: Names of the layers that its graphs call; None where it has none.
    """
    first: dict[int, str] = {}
    names: dict[int, set[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), set()).add(name)
    for name, module in model.named_modules(remove_duplicate=False):
        before = first.setdefault(id(module), name)
        if before != name:
            yield name, Layer(same=before)
        elif called is not None and not (names[id(module)] & called):
            yield name, Layer()
        elif called is None and type(module) is nn.Sequential:
            _check_hooks(name, module)
            yield name, Layer(kind="Sequential")
        else:
            yield name, _layer(name, module)


def _check_hooks(name: str, module: nn.Module) -> None:
    if any(module._forward_hooks.values()) or any(module._forward_pre_hooks.values()):
        raise Untold(f"{name or 'it'} has hooks")


def _layer(name: str, module: nn.Module) -> Layer:
    kind = type(module)
    if KINDS.get(kind.__name__) is not kind or not is_layer(module) or any(module.children()):
        raise Untold(f"{name or 'it'} is a {kind.__name__}, which is no layer of torch.nn")
    _check_hooks(name, module)
    try:
        layer = Layer(kind=kind.__name__, given=_given(module))
        again = _built(layer)
    except Exception as error:
        raise Untold(f"{name or 'it'} cannot be made again ({error})") from error
    own = _plain(module)
    same = all(own.get(name, module) == value for name, value in _plain(again).items())
    if not same or _shapes(again) != _shapes(module):
        raise Untold(f"{name or 'it'} is a {kind.__name__} that its constructor does not make")
    return layer


def _given(module: nn.Module) -> dict[str, Any]:
    """Return the arguments that make a layer of its kind and sizes."""
    given: dict[str, Any] = {}
    for name in _arguments(type(module)):
        if not hasattr(module, name):  # an old name of another
            continue
        value = getattr(module, name)
        if name == "bias" and not isinstance(value, bool):
            value = value is not None
        given[name] = value_told(value)
    return given


def _arguments(kind: type[nn.Module]) -> list[str]:
    constructor = nn.RNNBase if issubclass(kind, nn.RNNBase) else kind
    found = [
        parameter.name
        for parameter in inspect.signature(constructor.__init__).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in (_UNNAMED if constructor is nn.RNNBase else _UNNAMED[:3])
        and not parameter.name.startswith("_")
        and (parameter.name != "proj_size" or kind is nn.LSTM)
    ]
    return [*found, "nonlinearity"] if kind is nn.RNN else found


def _built(layer: Layer) -> nn.Module:
    """Make a layer without values.

    Raises:
        Exception: Whatever its constructor says to arguments that do not fit.
    """
    kind = KINDS[layer.kind]
    if not layer.given.keys() <= set(_arguments(kind)):
        raise ValueError("unknown arguments")
    given = {name: value_of(value) for name, value in layer.given.items()}
    layers = given.get("num_layers", 1)
    if not isinstance(layers, int) or layers > _MOST_LAYERS:
        raise ValueError(f"more than {_MOST_LAYERS} layers in one")
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(**given)


_MOST_LAYERS = 1000  # of a recurrent layer, each of which has tensors of its own


def _plain(module: nn.Module) -> dict[str, Any]:
    """Return the plain values that a layer holds, but for its mode."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name != "training":
            with suppress(ValueError):  # tensors, hooks
                found[name] = value_told(value)
    return found


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    own = {**module._parameters, **module._buffers}
    return {name: x.shape for name, x in own.items() if x is not None}


def rebuild(
    network: Network, graph: Graph | None, origin: str, tensors: Mapping[str, Tensor]
) -> nn.Module:
    """Make the network that a file describes; it has the values in `tensors`.

    Args:
        network: The description.
        graph: Of a rewritten graph.
        origin: Name of the class that was recorded.
        tensors: All parameters and buffers by name; the same tensor for names that are tied.

    Raises:
        ValueError: The description contradicts itself or the tensors.
    """
    modules: dict[str, nn.Module] = {}
    for name, layer in network.layers.items():
        if layer.same is not None:
            module = modules.get(layer.same)
        elif layer.kind in ("", "Sequential"):
            module = nn.Sequential() if layer.kind else nn.Module()
        else:
            module = _made(name, layer)
        parent, _, leaf = name.rpartition(".")
        if module is None or (name and (parent not in modules or not leaf)):
            raise ValueError(f"{name[:40]!r} has no place")
        modules[name] = module
        if name and modules[parent]._modules.get(leaf) is not module:  # else the parent is shared
            if hasattr(modules[parent], leaf):
                raise ValueError(f"{name[:40]!r} hides another")
            modules[parent].add_module(leaf, module)
    if "" not in modules or (not network.graphs and network.layers[""].kind == ""):
        raise ValueError("there is nothing to run")
    if unknown := set(network.evaluating_always) - modules.keys():
        raise ValueError(f"{min(unknown)[:40]!r} is no module")
    _put_in(modules, network, tensors)
    root = modules[""] if not network.graphs else _graph_of(modules, network, graph, origin)
    root.train(network.training)
    for name in network.evaluating_always:
        modules[name].train(False)
    return root


def _made(name: str, layer: Layer) -> nn.Module:
    if layer.kind not in KINDS:
        raise ValueError(f"{layer.kind[:40]!r} is no layer")
    try:
        return _built(layer)
    except Exception as error:
        raise ValueError(f"{name[:40]!r} cannot be made ({str(error)[:200]})") from error


def _put_in(modules: dict[str, nn.Module], network: Network, tensors: Mapping[str, Tensor]) -> None:
    """Give all modules their tensors, which must be of the shapes that the layers have."""
    for name, module in modules.items():
        if network.layers[name].same is None and network.layers[name].kind:
            at = f"{name}." if name else ""
            if any(
                f"{at}{leaf}" not in tensors or tensors[f"{at}{leaf}"].shape != shape
                for leaf, shape in _shapes(module).items()
            ):
                raise ValueError(f"{name[:40]!r} and its tensors differ in shape")
    made: dict[int, nn.Parameter] = {}
    for name, tensor in tensors.items():
        parent, _, leaf = name.rpartition(".")
        if parent not in modules or not leaf:
            raise ValueError(f"tensor {name[:40]!r} has no place")
        module, held = modules[parent], network.layers[parent]
        known = _shapes(module)
        if held.kind and held.same is None and leaf not in known:
            raise ValueError(f"tensor {name[:40]!r} belongs to no layer")
        if name in network.buffers:
            if leaf in module._parameters:
                raise ValueError(f"{name[:40]!r} is a parameter")
            if leaf not in known and hasattr(module, leaf):
                raise ValueError(f"tensor {name[:40]!r} hides another")
            module.register_buffer(leaf, tensor, persistent=network.buffers[name])
            continue
        if leaf in module._buffers or (leaf not in module._parameters and hasattr(module, leaf)):
            raise ValueError(f"tensor {name[:40]!r} hides another")
        trained = name not in network.frozen
        if trained and not (tensor.is_floating_point() or tensor.is_complex()):
            raise ValueError(f"{name[:40]!r} cannot be trained")
        if id(tensor) not in made:
            made[id(tensor)] = nn.Parameter(tensor, requires_grad=trained)
        setattr(module, leaf, made[id(tensor)])


def _graph_of(
    modules: dict[str, nn.Module], network: Network, graph: Graph | None, origin: str
) -> GraphNetwork:
    if graph is None or len(network.graphs) > 2:
        raise ValueError("a graph must say which sizes it takes")
    root = modules[""]
    layers = {name for name in modules if network.layers[name].kind or network.layers[name].same}
    tensors = {
        name
        for kind in (root.named_parameters, root.named_buffers)
        for name, _ in kind(remove_duplicate=False)
    }
    programs = [_program(each, layers, tensors) for each in network.graphs]
    small = GraphNetwork(
        root,
        programs[0],
        programs[-1],
        {},
        network.decisions,
        {},
        graph.gone,
        network.evaluating_always,
    )
    small.origin, small.only = origin, graph.only
    return small


def _program(called: Called, layers: set[str], tensors: set[str]) -> Program:
    graph = graph_of(called.calls, layers, tensors)
    names = tuple(str(node.target) for node in graph.nodes if node.op == "placeholder")
    parameters = tuple(map(_parameter_of, called.parameters))
    if names != called.inputs or (parameters and not set(names) <= {x.name for x in parameters}):
        raise ValueError("a graph's inputs must be those that it says")
    try:
        inspect.Signature(parameters)
    except ValueError as error:
        raise ValueError(f"its inputs have no order ({error})") from error
    if "self" in names or len(set(names)) < len(names):
        raise ValueError("a graph's inputs must have names of their own")
    if not set(called.fixed) <= set(names) or not set(called.nested) <= set(names):
        raise ValueError("a graph must not hold inputs that it does not take")
    outputs = _nesting_of(called.outputs)
    (given,) = next(node.args for node in reversed(graph.nodes) if node.op == "output")
    if not isinstance(given, tuple) or len(given) != outputs.num_leaves:
        raise ValueError(f"a graph must give {outputs.num_leaves} outputs")
    return Program.over(
        graph,
        names,
        {name: value_of(value) for name, value in called.fixed.items()},
        parameters,
        outputs,
        {name: _nesting_of(told) for name, told in called.nested.items()},
    )
