"""Running a model so that each operation is handed to its rule."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prunus.errors import UntraceableError
from prunus.space.inputs import cloned
from prunus.space.running import output_tensors, preserved, tensors_in
from prunus.space.tracer import Call, FunctionRule, Rules, Tracer
from prunus.types import Example, call_arguments

_RESHAPING = ("squeeze_", "unsqueeze_", "transpose_", "t_")
"""Operations that give a tensor another shape in place: rules see it as it was before."""


@dataclass(frozen=True)
class Schema:
    """Of an ATen operation: its name, its arguments with their defaults, whether it writes."""

    name: str
    defaults: dict[str, Any]
    mutates: bool


@cache
def schema(func: OpOverload) -> Schema:
    """Return what PyTorch says of an operation."""
    known = func._schema
    defaults = {argument.name: argument.default_value for argument in known.arguments}
    return Schema(known.name.removeprefix("aten::"), defaults, known.is_mutable)


_WAYS_OUT = {
    "aten::embedding_renorm_": "an embedding with max_norm scales its rows in every forward. Scale "
    "them once, weight.copy_(torch.renorm(weight, norm_type, 0, max_norm)) without gradients, and "
    "set its max_norm to None",
}
"""What to do instead of an operation that writes into a parameter."""

_READS = ("numpy", "tolist", "__array__", "__dlpack__", "apply_", "map_", "map2_")
"""Calls that hand all entries of a tensor to something else than PyTorch."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs each operation and hands it to its rule."""

    def __init__(self, tracer: Tracer, rules: "Rules") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracer = tracer
        self.rules = rules

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run `func` and propagate labels through it."""
        with torch._C.DisableTorchFunction():  # the user has not called what runs inside
            return self._follow(func, args, kwargs or {})

    def _follow(self, func: OpOverload, args: Any, kwargs: dict[str, Any]) -> Any:
        if self.tracer.silent:
            return func(*args, **kwargs)
        known = schema(func)
        name = known.name
        given = known.defaults | dict(zip(known.defaults, args, strict=False)) | kwargs
        if known.mutates:
            self._refuse_writes(func, args, kwargs)
        if name in _RESHAPING:
            given["self"] = self.tracer.alias(given["self"])
        out = func(*args, **kwargs)
        leaves = tensors_in(out)
        if not leaves and (func.namespace == "aten" or not tensors_in(args)) and not known.mutates:
            return out  # a single entry, or a statement about the whole
        call = Call(name, given, out, known.mutates)
        operations = self.rules.operations
        rule = operations.get(name) or operations.get(name.rstrip("_"))
        if rule is None and leaves and is_pointwise(func):
            rule = operations["pointwise"]
        zero = self.rules.keeps_zero(self.tracer, call)
        if call.mutates and not zero and name not in _RESHAPING:
            for tensor in call.tensors[: 1 if leaves else None]:
                self.tracer.overwrite(tensor)
        try:
            if rule is None:
                raise NotImplementedError
            rule(self.tracer, call)
        except Exception as error:
            _report_bug(f"aten.{name}", error)
            self.tracer.unknown[name] += 1
            self.tracer.freeze_inputs(call, f"meets aten.{name}, which has no rule")
        else:
            for leaf in leaves if zero else ():
                self.tracer.set_zero(leaf, zero)
        return out

    def _refuse_writes(self, func: OpOverload, args: Any, kwargs: dict[str, Any]) -> None:
        """Refuse a forward that changes a parameter: the model would not stay as it was."""
        arguments = func._schema.arguments
        given = {x.name: value for x, value in zip(arguments, args, strict=False)} | kwargs
        for argument in arguments:
            written = argument.alias_info is not None and argument.alias_info.is_write
            for value in tensors_in(given.get(argument.name)) if written else ():
                name = self.tracer.owner(value) if self.tracer.origin(value) is not None else None
                if name is not None:
                    raise UntraceableError(
                        f"its forward writes into the parameter {name!r} ({func._schema.name}); "
                        f"{_WAYS_OUT.get(func._schema.name, 'do that outside of forward')}."
                    )


class Functions(TorchFunctionMode):
    """Takes some functions of `torch` as one operation, whatever they run inside."""

    def __init__(self, tracer: Tracer, rules: Mapping[str, FunctionRule]) -> None:
        super().__init__()
        self.tracer = tracer
        self.rules = rules

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, and where it has a rule of its own, apply that."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "multi_head_attention_forward":
            return looked_inside(self, func, args, kwargs)
        rule = self.rules.get(name)
        if name in _READS and not self.tracer.silent:
            for tensor in tensors_in(args):
                for label in self.tracer.of(tensor):
                    self.tracer.labels.freeze(label, f"is read by {name}")
        if rule is None or self.tracer.silent:
            return func(*args, **kwargs)
        self.tracer.silent = True
        try:
            out = func(*args, **kwargs)
        finally:
            self.tracer.silent = False
        try:
            rule(self.tracer, out, *args, **kwargs)
        except Exception as error:
            _report_bug(name, error)
            self.tracer.unknown[name] += 1
            call = Call(name, {"args": args, **kwargs}, out, mutates=False)
            self.tracer.freeze_inputs(call, f"meets {name}, in a form without a rule")
        return out


def _report_bug(name: str, error: Exception) -> None:
    """Warn of a rule that failed; one that does not know a form says so by NotImplementedError."""
    if not isinstance(error, NotImplementedError):
        warnings.warn(
            f"the rule of {name} failed ({type(error).__name__}: {error}), so what it touches "
            "stays; this is a bug of Prunus, please report it with the call.",
            RuntimeWarning,
            stacklevel=2,
        )


def looked_inside(mode: TorchFunctionMode, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Run a function of `torch.nn.functional` so that `mode` sees what it calls, not the whole."""
    with mode, mock.patch("torch.nn.functional.has_torch_function", lambda _: False):
        return func(*args, **kwargs)


def is_pointwise(func: OpOverload) -> bool:
    """Say whether PyTorch itself tags the operation, or its out-of-place form, as pointwise."""
    if torch.Tag.pointwise in func.tags:
        return True
    base = func._schema.name.removeprefix("aten::").rstrip("_")
    packet = getattr(torch.ops.aten, base, None)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )


def _watch_bare_norms(model: nn.Module, tracer: Tracer, modes: ExitStack) -> None:
    """Tell the tracer what norms without tensors read, as long as `modes` are entered."""
    for name in tracer.sizes:

        def note(norm: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            given = tensors_in([*args, *kwargs.values()])
            if given and not tracer.silent:
                tracer.normalise(name, norm, given[0])

        hook = model.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True)
        modes.callback(hook.remove)


def record(
    model: nn.Module,
    example: Example,
    rules: "Rules",
    run: Callable[["Tracer"], Callable[..., Any]] | None = None,
    *,
    training: bool = False,
    labelled: bool = True,
    tracer: Tracer | None = None,
) -> Tracer:
    """Run `model` on `example` and return what its operations say about its channels.

    Args:
        model: The network whose parameters and buffers are labelled.
        example: Its input.
        rules: What each operation says.
        run: Given the tracer, what to call instead of the model itself.
        training: Run in train mode; still nothing of the model changes.
        labelled: Follow the operations; without, only `run` sees the model run.
        tracer: Follows the operations in its way, and adds to what earlier runs have found.

    Raises:
        UntraceableError: The model fails on the example input.
    """
    args, kwargs = call_arguments(cloned(example))
    tracer = tracer or Tracer()
    if labelled and not tracer.adopted:
        tracer.adopt(model)
    for leaf in tree_leaves((args, kwargs)):
        if isinstance(leaf, Tensor):
            tracer.assign(leaf, ["is the network's input"] * leaf.ndim)
    with preserved(model, training=training, flags_only=True), ExitStack() as modes:
        if labelled:
            _watch_bare_norms(model, tracer, modes)
            modes.enter_context(Functions(tracer, rules.functions))
            modes.enter_context(Recorder(tracer, rules))
        try:
            out = (run(tracer) if run else model)(*args, **kwargs)
        except Exception as error:
            shapes = [tuple(x.shape) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            raise UntraceableError(
                f"{type(model).__name__} fails on the example input of shape "
                f"{', '.join(map(str, shapes))}: {type(error).__name__}: {error}. "
                f"Pass an example that the model accepts in {'train' if training else 'eval'} mode."
            ) from error
    outputs = output_tensors(out)
    if not outputs:
        raise UntraceableError(
            f"{type(model).__name__} returns no tensor ({type(out).__name__}), so there is nothing "
            "to keep equal."
        )
    for tensor in outputs:
        for label in tracer.of(tensor):
            tracer.labels.freeze(label, "is the network's output")
    return tracer
