"""A model's forward as a graph over the user's own submodules, recorded while it runs.

The model runs on real tensors, so any Python is welcome: its conditions and loops are taken as they
go for the example. What is recorded are calls of PyTorch's functions, tensor methods and layers
(under a `TorchFunctionMode`), and sizes read from tensors, with what is computed from them, so the
graph takes other batch and image sizes. The small network runs the text of that graph.
"""

import inspect
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_structure
from torch.utils.weak import WeakIdKeyDictionary

from prunus.space.decisions import take_out
from prunus.space.numbers import Ratio, Size, plain_number, tracked
from prunus.space.recorder import looked_inside, record
from prunus.space.recording import Applied, Recording, Seen
from prunus.space.replaced import replaced
from prunus.space.rules import RULES
from prunus.space.running import held_tensors, tensors_in
from prunus.space.tracer import Tracer
from prunus.types import Example

_COMPOSED = (
    *(nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Unflatten, nn.MultiheadAttention),
    *(nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder),
    *(nn.TransformerEncoderLayer, nn.TransformerDecoderLayer),
)
"""Modules of PyTorch's own that are looked into, because they hold sizes or other modules."""

_DECIDING = (
    *("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy", "is_nonzero"),
    *("equal", "allclose"),
)
"""Calls that bring a tensor's value into Python, where only the branch taken is seen."""

_CASTS = ("to", "type", "type_as", "float", "double", "half", "bfloat16")
"""Calls that return what they are given where it has the precision asked for."""

_METHODS = {Tensor.__pow__: "pow", Tensor.__ipow__: "pow_"}
"""Functions that PyTorch wraps, so that they are not found as methods by their own names."""

_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CONSTANT = (
    *(int, float, bool, str, complex, type(None), type(...)),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
)


class GraphRecorder(TorchFunctionMode):
    """Records calls as nodes of a graph while they run on real tensors."""

    def __init__(self, model: nn.Module, tracer: Tracer, *, training: bool = False) -> None:
        super().__init__()
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.recording = Recording(tracer, device=device)
        self.graph = self.recording.graph
        self._constant = "_training" if training else "_constant"
        self._tracer = tracer
        self._products = len(tracer.products)
        self._inside = False  # a layer or function that is taken as a whole
        self._stopped = False
        self._busy = True  # in PyTorch's own code, whose questions are asked again when it runs
        self._asked: list[tuple[fx.Node, bool]] = []
        self._unknown = 0
        self._nodes: Any = WeakIdKeyDictionary()
        self._paths = {id(module): name for name, module in model.named_modules()}
        self._names = {
            id(tensor): name for name, tensor in (*model.named_buffers(), *model.named_parameters())
        }
        self._held = {id(tensor) for tensor in held_tensors(model)}

    def run(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the model and complete the graph."""
        self._attempt(self._take, model, args, kwargs)
        with self, self._wholes():
            self._busy = False
            out = model(*args, **kwargs)
            self._busy = True
        self.recording.asked = take_out(self.graph, self._asked)
        self._attempt(self._give, out)
        return out

    def _attempt(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do one step of the recording; once one fails there is no graph, but the model runs on."""
        if self._stopped:
            return None
        try:
            with torch._C.DisableTorchFunction():  # what it looks at is not looked at by the model
                return work(*args)
        except Exception as error:
            self._stopped = True
            self._fail(str(error) or type(error).__name__)
            return None

    def _fail(self, reason: str) -> None:
        """Note why there is no graph; the calls go on being recorded, to be compared."""
        self.recording.failure = self.recording.failure or reason

    def _take(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = inspect.signature(model.forward).bind(*args, **kwargs)
        names = [
            (name, value)
            for name, value in given.arguments.items()
            if given.signature.parameters[name].kind not in _ANY_NUMBER
        ]
        if len(names) < len(given.arguments):
            names = [(f"input{k}", value) for k, value in enumerate(args)] + [*kwargs.items()]
        else:
            named = given.signature.parameters.values()
            self.recording.parameters = tuple(p for p in named if p.kind not in _ANY_NUMBER)
        for name, value in names:
            self._place(self.graph.placeholder(name), value)
            if isinstance(value, int | float | str | None):
                self.recording.fixed[name] = value
            elif isinstance(value, dict | list | tuple):
                self.recording.nested[name] = tree_structure(value)

    def _give(self, out: Any) -> None:
        leaves, self.recording.spec = tree_flatten(out)
        self.graph.output(tuple(self._argument(leaf) for leaf in leaves))

    def _place(self, node: fx.Node, value: Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                self._place(self.graph.call_function(operator.getitem, (node, key)), part)
        elif isinstance(value, list | tuple):
            for k, part in enumerate(value):
                self._place(self.graph.call_function(operator.getitem, (node, k)), part)
        elif isinstance(value, Tensor):
            self._note(node, value)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`; where it makes or changes a tensor, add a node."""
        kwargs = kwargs or {}
        if self._inside:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "multi_head_attention_forward":  # it holds the number of heads: look inside
            return looked_inside(self, func, args, kwargs)
        before, self._busy = self._busy, True
        try:
            out = func(*args, **kwargs)
        finally:
            self._busy = before
        if name == "__get__" and func.__self__.__name__ == "shape":
            return self._sizes(args[0])
        if name == "size":
            sizes = self._sizes(args[0])
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            return sizes if dim is None else sizes[dim]
        if name in ("numel", "nelement"):
            source = args[0]
            node = partial(self.graph.call_method, "numel")
            return tracked(out, lambda: node((self._argument(source),)), self._decide)
        if name in _CASTS and args and out is args[0]:
            out = self._tracer.alias(out)  # in another precision these two are not the same
        if name in _DECIDING:
            self.recording.decisions.add(name)
        if name == "__setitem__" or tensors_in(out):
            self._attempt(self._add, func, name, args, kwargs, out)
        return out

    def _add(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        """Add the node of a call."""
        arguments = self._argument(args), self._argument(kwargs)
        if name == "__get__":
            node = self.graph.call_function(getattr, (arguments[0][0], func.__self__.__name__))
        elif name in ("__getitem__", "__setitem__"):
            function = operator.getitem if name == "__getitem__" else operator.setitem
            node = self.graph.call_function(function, *arguments)
        elif func in _METHODS:
            node = self.graph.call_method(_METHODS[func], *arguments)
        elif name == "__rdiv__":
            node = self.graph.call_function(operator.truediv, arguments[0][::-1])
        elif getattr(Tensor, name, None) is func:
            node = self.graph.call_method(name, *arguments)
        else:
            node = self.graph.call_function(func, *arguments)
        self._note(node, out)
        self._note_products(node)

    @contextmanager
    def _wholes(self) -> Iterator[None]:
        """Take layers, and functions with a backward of their own, as one call each."""
        run_module = nn.Module.__call__
        applied = inspect.getattr_static(torch.autograd.Function, "apply")

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            path = self._paths.get(id(module))  # empty for the model itself
            if self._inside or not path or not is_layer(module):
                return run_module(module, *args, **kwargs)

            def add() -> fx.Node:
                return self.graph.call_module(path, self._argument(args), self._argument(kwargs))

            return self._whole(add, run_module, module, *args, **kwargs)

        def apply(function: Any, *args: Any) -> Any:
            run = applied.__get__(None, function)
            if self._inside:
                return run(*args)

            def add() -> fx.Node:
                return self.graph.call_function(Applied(function), self._argument(args))

            return self._whole(add, run, *args)

        plain_len = len

        def length(value: Any) -> int:
            return self._sizes(value)[0] if isinstance(value, Tensor) else plain_len(value)

        def forward(plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            """A function with a backward of its own that was taken before `apply` was replaced.

            What it gives is then of unknown origin, so that no graph is made without its backward.
            """
            if self._inside:
                return plain(*args, **kwargs)
            self._inside = True
            try:
                return plain(*args, **kwargs)
            finally:
                self._inside = False

        with replaced(call=call, apply=apply, forward=forward, length=length):
            yield

    def _whole(
        self, add: Callable[[], fx.Node], run: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        node = self._attempt(add)
        self._inside = True
        try:
            out = run(*args, **kwargs)
        finally:
            self._inside = False
        self._attempt(self._note, node, out)
        self._attempt(self._note_products, node)
        return out

    def _note_products(self, node: fx.Node) -> None:
        """Remember which products were noted since the last call: they are this one's."""
        before, self._products = self._products, len(self._tracer.products)
        if before < self._products:
            node.meta["products"] = before, self._products

    def _note(self, node: fx.Node, out: Any) -> None:
        """Remember what a node gives: each tensor in it can be asked for later."""
        seen, nodes = self.recording.seen, self._nodes

        def look(value: Any, path: tuple[Any, ...]) -> Any:
            if isinstance(value, Tensor):
                nodes[value] = (node, path)
                index = self._tracer.constant_index(value)
                return Seen(self._tracer.of(value), tuple(value.shape), index)
            if isinstance(value, dict):
                return {key: look(part, (*path, key)) for key, part in value.items()}
            if isinstance(value, list | tuple):
                return [look(part, (*path, k)) for k, part in enumerate(value)]
            return value

        seen[node.name] = look(out, ())

    def _sizes(self, tensor: Tensor) -> torch.Size:
        self.recording.reads_sizes |= not (self._busy or self._inside)

        def recipe(dim: int) -> Callable[[], fx.Node]:
            return lambda: self.graph.call_method("size", (self._argument(tensor), dim))

        return torch.Size(  # a tuple of numbers that know where they come from
            [tracked(size, recipe(dim), self._decide) for dim, size in enumerate(tensor.shape)]
        )

    def _decide(self, question: Any, operands: tuple[Any, ...], answer: bool) -> None:
        """Record what the forward asks of sizes."""
        asking = sys._getframe(2).f_globals.get("__name__", "")
        if self._busy or self._inside or asking.startswith("torch."):
            return
        if question is None:
            self.recording.escapes = True
        else:
            self._attempt(self._ask, question, operands, answer)

    def _ask(self, question: Any, operands: tuple[Any, ...], answer: bool) -> None:
        self._busy = True
        try:
            node = self.graph.call_function(question, self._argument(operands))
        finally:
            self._busy = False
        node.meta["asked"] = answer
        self._asked.append((node, answer))

    def _argument(self, value: Any) -> Any:
        """Return what stands for a value in the graph."""
        kind = type(value)
        if kind in _CONSTANT:
            return value
        if kind in (Size, Ratio):
            try:
                node = value.node
            except Exception:  # kept by the model since an earlier run
                return plain_number(value)
            return node if node.graph is self.graph else plain_number(value)
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, dict):
            return {key: self._argument(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._argument(part) for part in value]
        if isinstance(value, PackedSequence):
            self._fail("a call is given a PackedSequence, which no graph can hold")
        if isinstance(value, tuple):
            return tuple(self._argument(part) for part in value)
        if isinstance(value, slice):
            return slice(*map(self._argument, (value.start, value.stop, value.step)))
        if isinstance(value, _CONSTANT):
            return value
        self._fail(f"a call is given a {kind.__name__}, which no graph can hold")
        return f"<{kind.__name__}>"

    def _tensor(self, tensor: Tensor) -> fx.Node:
        if tensor in self._nodes:
            node, path = self._nodes[tensor]
            for key in path:
                seen = self.recording.seen[node.name]
                node = self.graph.call_function(operator.getitem, (node, key))
                self.recording.seen[node.name] = seen[key] if seen is not None else None
            self._nodes[tensor] = (node, ())
            return node  # type: ignore[no-any-return]
        name = self._names.get(id(tensor))
        if name is None and id(tensor) not in self._held:
            self._fail(
                "it uses a tensor that no call of PyTorch's has made while it was recorded, such "
                "as one from NumPy or a global; compute it with torch, or hold it as a buffer"
            )
            name = f"_unknown{self._unknown}"
            self._unknown += 1
        elif name is None:
            name = f"{self._constant}{len(self.recording.constants)}"
            self.recording.constants[name] = tensor
        node = self.graph.create_node("get_attr", name)
        self._note(node, tensor)
        return node


def recorded(
    model: nn.Module,
    example: Example,
    *,
    training: bool = False,
    labelled: bool = True,
    tracer: Tracer | None = None,
) -> Recording:
    """Run the model once and return its graph, with the labels of what it computes or without.

    For arguments see `record`.

    Raises:
        UntraceableError: The model fails on the example input.
    """
    recorders: list[GraphRecorder] = []

    def run(tracer: Tracer) -> Callable[..., Any]:
        recorders.append(GraphRecorder(model, tracer, training=training))
        return lambda *args, **kwargs: recorders[0].run(model, args, kwargs)

    record(
        model,
        example,
        RULES,
        run,
        training=training,
        labelled=labelled,
        tracer=tracer,
    )
    return recorders[0].recording


def is_layer(module: nn.Module) -> bool:
    """Say whether a module is one of PyTorch's own layers, which takes its sizes from its tensors.

    A layer with a parametrization (weight norm) is one, too.
    """
    kind = type(module)
    if parametrize.is_parametrized(module):
        kind = kind.__mro__[1]
    return kind.__module__.startswith("torch.nn.modules") and kind not in _COMPOSED
