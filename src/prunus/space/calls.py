"""A recorded graph as plain data, and back.

What is read comes from a file: it may name functions of PyTorch that compute tensors of tensors,
tensors' methods that do, and arithmetic, all of them from tables; and it holds numbers, words and
nestings of these. Nothing is imported or looked up by a name that a file gives.
"""

import keyword
import math
import operator
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.immutable_collections import immutable_dict, immutable_list
from torch.overrides import get_testing_overrides

from prunus.space.decisions import holds

Calls = list[list[Any]]
"""Of each node: what it does, its name, its target, and what it is given."""

_SPACES = {
    "torch": torch,
    "torch.nn.functional": torch.nn.functional,
    "torch.linalg": torch.linalg,
    "torch.fft": torch.fft,
    "torch.special": torch.special,
}

_FACTORIES = (
    *("arange", "empty", "empty_strided", "eye", "full", "linspace", "logspace", "ones", "rand"),
    *("randint", "randn", "randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices"),
    *("empty_like", "full_like", "ones_like", "rand_like", "randint_like", "randn_like"),
    *("zeros_like",),
    *("zeros", "as_tensor", "asarray", "complex", "polar", "hann_window", "hamming_window"),
)
"""Of torch: functions that make a tensor of numbers."""

_METHODS = (
    *("bfloat16", "bool", "byte", "contiguous", "copy_", "cpu", "cuda", "dim", "double", "expand"),
    *("expand_as", "exponential_", "fill_", "float", "half", "int", "long", "masked_fill_"),
    *("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros", "normal_", "nelement"),
    *("numel", "random_", "repeat", "reshape_as", "short", "size", "sum_to_size", "to", "type_as"),
    *("unfold", "uniform_", "view", "view_as", "zero_", "char", "ndimension", "stride"),
)
"""Of tensors: methods without a function of the same name that compute tensors or sizes."""

_OPERATORS = (
    *("abs", "add", "and", "eq", "floordiv", "ge", "getitem", "gt", "iadd", "iand", "imul"),
    *("invert", "ior", "isub", "itruediv", "le", "lshift", "lt", "matmul", "mod", "mul", "ne"),
    *("neg", "or", "pos", "pow", "radd", "rand", "rfloordiv", "rmatmul", "rmod", "rmul", "ror"),
    *("rpow", "rshift", "rsub", "rtruediv", "setitem", "sub", "truediv", "truth", "xor"),
    *("rdiv", "rlshift", "rrshift", "rxor"),
    *("idiv", "ifloordiv", "ilshift", "imod", "ipow", "irshift", "ixor"),
)

_ATTRIBUTES = ("T", "H", "mT", "mH", "real", "imag", "data", "dtype", "device", "ndim", "shape")

_QUESTIONS = ("lt", "le", "gt", "ge", "eq", "ne", "truth")

_PATH = re.compile(r"\w+(\.\w+)*", re.ASCII)

_CONSTANTS: dict[str, Any] = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}

_NUMBERS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}

_DEEPEST = 20


@cache
def _functions() -> dict[str, Callable[..., Any]]:
    """Return the functions that a graph may call, by their names."""
    known = set(get_testing_overrides())
    found = {
        f"{space}.{name}": function
        for space, module in _SPACES.items()
        for name, function in vars(module).items()
        if not name.startswith("_") and callable(function) and _hashed(function, known)
    }
    found |= {f"torch.{name}": getattr(torch, name) for name in _FACTORIES}
    for name in _OPERATORS:
        written = name if hasattr(operator, name) else f"__{name}__"
        if hasattr(operator, written):
            found[f"operator.{name}"] = getattr(operator, written)
        if hasattr(Tensor, f"__{name}__"):
            found[f"torch.Tensor.__{name}__"] = getattr(Tensor, f"__{name}__")
    for each in (math.ceil, math.floor, math.trunc, round, abs, getattr, holds):
        found[each.__name__] = each
    return found


def _hashed(function: Any, known: set[Any]) -> bool:
    try:
        return function in known and not isinstance(function, type)
    except TypeError:
        return False


@cache
def _names() -> dict[int, str]:
    """Return the name of each function, by its `id`."""
    return {id(function): name for name, function in _functions().items()}


@cache
def _methods() -> frozenset[str]:
    """Return the methods that a graph may call."""
    functions = {name.rpartition(".")[2] for name in _functions()}
    same = {name for name in dir(Tensor) if name.removesuffix("_") in functions}
    operators = {f"__{name}__" for name in _OPERATORS}
    return frozenset(x for x in {*same, *_METHODS, *operators} if hasattr(Tensor, x))


def told(graph: fx.Graph) -> Calls:
    """Return a graph as data that JSON has.

    Raises:
        ValueError: It calls or holds what is in no table.
    """
    return [
        [node.op, node.name, _target(node), *map(value_told, (tuple(node.args), dict(node.kwargs)))]
        for node in graph.nodes
    ]


def _target(node: fx.Node) -> str:
    if node.op == "call_function":
        name = _names().get(id(node.target))
        if name is None:
            raise ValueError(f"it calls {getattr(node.target, '__name__', node.target)}")
        return name
    return str(node.target)


def graph_of(calls: Any, modules: set[str], tensors: set[str]) -> fx.Graph:
    """Return the graph of what `told` returned, after checking all of it.

    Args:
        calls: From a file.
        modules: Names of the layers that it may call.
        tensors: Names of the parameters and buffers that it may read.

    Raises:
        ValueError: It is no graph, or calls what it may not.
    """
    graph, nodes = fx.Graph(), dict[str, fx.Node]()
    for call in calls:
        if not isinstance(call, list) or len(call) != 5 or not all(map(_text, call[:3])):
            raise ValueError("a call must be five things")
        op, name, target, args, kwargs = call
        given, named = value_of(args, nodes), value_of(kwargs, nodes)
        if not isinstance(given, tuple) or not isinstance(named, dict):
            raise ValueError("a call must be given a tuple and a dict")
        if name in nodes or not all(map(_identifier, (name, *named))):
            raise ValueError(f"a call must have a name of its own, got {name[:40]!r}")
        if op == "output":
            if call is not calls[-1] or len(given) != 1:
                raise ValueError("a graph must end with one output")
            graph.output(given[0])
            return graph
        found = _checked(op, target, given, modules, tensors)
        nodes[name] = graph.create_node(op, found, given, named, name=name)
    raise ValueError("a graph must end with an output")


def _checked(
    op: str, target: str, given: tuple[Any, ...], modules: set[str], tensors: set[str]
) -> Any:
    """Return what a node calls.

    Raises:
        ValueError: It may not be called.
    """
    if op == "call_function" and target in _functions():
        function = _functions()[target]
        if function is getattr and (len(given) != 2 or given[1] not in _ATTRIBUTES):
            raise ValueError("only a tensor's own attributes can be read")
        if function is holds and (len(given) < 4 or given[1] not in _QUESTIONS):
            raise ValueError("only comparisons can be asked")
        return function
    allowed = (
        (op == "call_method" and target in _methods() and bool(given))
        or (op == "placeholder" and _identifier(target) and not given)
        or (op == "call_module" and target in modules and _PATH.fullmatch(target) is not None)
        or (op == "get_attr" and target in tensors and _PATH.fullmatch(target) is not None)
    )
    if not allowed:
        raise ValueError(f"{op[:20]!r} of {target[:40]!r} is not known")
    return target


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _identifier(name: Any) -> bool:
    return _text(name) and name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def value_told(value: Any) -> Any:
    """Return a plain value, or a nesting of them, as data that JSON has.

    Raises:
        ValueError: It is or holds something else.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if kind in (list, immutable_list):
        return [*map(value_told, value)]
    if kind in (tuple, torch.Size):
        return {"tuple": [*map(value_told, value)]}
    if kind in (dict, immutable_dict):
        return {"dict": [[value_told(key), value_told(part)] for key, part in value.items()]}
    if kind is slice:
        return {"slice": [*map(value_told, (value.start, value.stop, value.step))]}
    if value is ...:
        return {"ellipsis": None}
    if kind is torch.device:
        return {"device": str(value)}
    for name, constant in _CONSTANTS.items():
        if isinstance(value, constant):
            return {name: str(value).removeprefix("torch.")}
    raise ValueError(f"it holds a {kind.__name__}")


def value_of(value: Any, nodes: dict[str, fx.Node] | None = None, depth: int = 0) -> Any:
    """Return the value of which `value_told` made this.

    Args:
        value: From a file.
        nodes: What it may name.
        depth: How deep in others it is.

    Raises:
        ValueError: It is none.
    """
    if depth > _DEEPEST:
        raise ValueError("a value must not be nested that deep")

    def parts(values: Any) -> Iterator[Any]:
        if not isinstance(values, list):
            raise ValueError("a nesting must be a list")
        return (value_of(part, nodes, depth + 1) for part in values)

    if isinstance(value, list):
        return list(parts(value))
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ValueError("a value must be of one kind")
    ((kind, held),) = value.items()
    if kind == "tuple":
        return tuple(parts(held))
    if kind == "slice" and isinstance(held, list) and len(held) == 3:
        return slice(*parts(held))
    if kind == "dict":
        pairs = [*parts(held)]
        if all(isinstance(x, list) and len(x) == 2 and isinstance(x[0], str | int) for x in pairs):
            return dict(pairs)
    if kind == "ellipsis" and held is None:
        return ...
    if isinstance(held, str):
        if kind == "node" and nodes is not None and held in nodes:
            return nodes[held]
        if kind == "float" and held in _NUMBERS:
            return _NUMBERS[held]
        if kind == "device" and re.fullmatch(r"(cpu|cuda|mps|xpu|meta)(:\d{1,3})?", held):
            return torch.device(held)
        if kind in _CONSTANTS and isinstance(
            found := vars(torch).get(held.removeprefix("torch.")), _CONSTANTS[kind]
        ):
            return found
    raise ValueError(f"{str(kind)[:40]!r} is no kind of value, or holds none")
