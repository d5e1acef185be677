"""Running a user's model so that nothing of it changes, and finding what it returns."""

import copy
import random
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.errors import UntraceableError
from prunus.seeds import seeded


@contextmanager
def preserved(
    model: nn.Module, *, training: bool = False, seed: int | None = None, flags_only: bool = False
) -> Iterator[None]:
    """Run the model in eval (or train) mode without gradients and leave it exactly as it was found.

    See `unchanged` for what is restored; the global random state of torch may be seeded inside. The
    fused kernels of whole transformer layers are switched off inside, so that their operations are
    seen.

    Args:
        model: The network.
        training: Whether in train mode.
        seed: Of the random state inside.
        flags_only: Take from the modules' own `train` the flags that it sets and undo the rest,
            such as weights merged for evaluation, so that a forward is seen in its own parts; what
            it caches of the weights is computed anew.
    """
    with unchanged(model), unfused(), ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # in it no operation could be seen
        stack.enter_context(torch.no_grad())
        if flags_only and _has_own_train(model):
            forget(model)
            with unchanged(model):
                model.train(training)
                flags = {module: module.training for module in model.modules()}
            for module, flag in flags.items():
                module.training = flag
        else:
            model.train(training)
        if seed is not None:
            stack.enter_context(seeded(seed, _gpus(model)))
        yield


@contextmanager
def unfused() -> Iterator[None]:
    """Run transformer layers operation by operation, not in PyTorch's fused kernels for eval mode.

    These also give zeros at padded positions, where the layers themselves give values.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Leave a model as it was found, and the random states of torch, NumPy and Python.

    Restored are modes, attributes, what modules hold (parameters, buffers, modules, hooks), the
    values of buffers, and what plain lists, dicts and sets held as attributes hold, though not
    what lies deeper. Parameters get their values back where a module has a `train` of its own,
    which may merge weights; what a forward writes into them is refused when it is recorded.
    """
    modules = list(model.modules())
    held = [_Held(module) for module in modules]
    values = [x for module in modules for x in module._buffers.values() if x is not None]
    values += model.parameters() if _has_own_train(model) else []
    clones = [x.detach().clone() for x in values]
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=_gpus(model)):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            for one in held:
                one.restore()
            with torch.no_grad():
                for value, clone in zip(values, clones, strict=True):
                    if not value.is_meta and not torch.equal(value, clone):
                        value.data.copy_(clone)  # as if it had never been written


def _gpus(model: nn.Module) -> set[torch.device]:
    return {p.device for p in model.parameters() if p.device.type == "cuda"}


class _Held:
    """What a module holds, to be restored: its attributes, and what the containers among them hold.

    Containers keep their identity, as a handle removes its hook from the dict that it was made for.
    """

    def __init__(self, module: nn.Module) -> None:
        self._own = vars(module)
        self._attributes = dict(self._own)
        self._contents = [
            (x, type(x)(x) if x else None) for x in self._own.values() if type(x) in _CONTAINERS
        ]  # most are empty, and need no copy

    def restore(self) -> None:
        """Put back what was there."""
        own = self._own
        if not _alike(own, self._attributes):
            own.clear()
            own.update(self._attributes)
        for container, content in self._contents:
            if content is None:
                if container:
                    container.clear()
            elif isinstance(container, list):
                if not _same(container, content):
                    container[:] = content
            elif not (
                _same(container, content)
                if isinstance(container, set)
                else _alike(container, content)
            ):
                container.clear()
                container.update(content)


_CONTAINERS = (list, dict, set, OrderedDict)


def _alike(found: Mapping[Any, Any], before: Mapping[Any, Any]) -> bool:
    return _same(found, before) and _same(found.values(), before.values())


def _same(found: Collection[Any], before: Collection[Any]) -> bool:
    return len(found) == len(before) and all(map(is_, found, before))


def _has_own_train(model: nn.Module) -> bool:
    """Say whether a module does more in `train` or `eval` than set flags."""
    return any(
        getattr(type(module), name) is not getattr(nn.Module, name) or name in vars(module)
        for module in model.modules()
        for name in ("train", "eval")
    )


def forget(model: nn.Module) -> None:
    """Empty the caches of what weights gave: containers of tensors that their own `train` empties.

    They would go on giving what they gave before the weights were masked, removed or trained.
    """
    if not _has_own_train(model):
        return
    filled = [
        (vars(module), name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if name not in _OF_EVERY_MODULE and type(value) in _CONTAINERS and tensors_in(value)
    ]
    with unchanged(model):
        try:
            model.train()
            model.eval()  # fills again what is made here, not where it is first needed
        except Exception:
            return  # a network for evaluation only, whose caches last
        emptied = [
            (own, name, value)
            for own, name, value in filled
            if type(own.get(name)) in _CONTAINERS and not own[name]
        ]
    empty = {id(value): type(value)() for _, _, value in emptied}  # one for all that share it
    for own, name, value in emptied:
        own[name] = empty[id(value)]


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in plain containers, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for part in value for tensor in tensors_in(part)]


def held_tensors(model: nn.Module) -> list[Tensor]:
    """Return the tensors that a model's modules hold: parameters, buffers and plain attributes."""
    own = _OF_EVERY_MODULE - {"_parameters", "_buffers"}
    return [
        tensor
        for module in model.modules()
        for name, value in vars(module).items()
        if name not in own
        for tensor in tensors_in(value)
    ]


def refuse_shared_memory(parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Refuse parameters of which one is a view of another: a mask of one would mask the other.

    Raises:
        UntraceableError: Two share memory without being one parameter.
    """
    spans: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for name, x in parameters:
        if x.numel() and x.layout == torch.strided and not x.is_meta:
            last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
            begin, size = int(x.storage_offset()), x.element_size()
            span = begin * size, (begin + last + 1) * size, name
            spans[x.untyped_storage().data_ptr()].append(span)
    for shared in spans.values():
        for (_, end, name), (begin, _, other) in pairwise(sorted(shared)):
            if begin < end:
                raise UntraceableError(
                    f"the parameters {name!r} and {other!r} share memory without being one: what "
                    "is removed from one would stay in the other. Tie them as one parameter "
                    "(b.weight = a.weight), or read the one where the other is needed "
                    "(F.linear(x, a.weight.t()))."
                )


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a deep copy with empty caches; tensors with a gradient history lose it.

    Args:
        model: An old-style weight norm leaves tensors with a history in it, which PyTorch refuses
            to copy.
        memo: `id` of what is not copied -> what stands in its place.
    """
    memo = {} if memo is None else memo
    for tensor in held_tensors(model):
        if tensor.grad_fn is not None:
            memo.setdefault(id(tensor), tensor.detach().clone())
    for module in model.modules():  # most of what it holds are empty containers for hooks
        for value in vars(module).values():
            if type(value) in _CONTAINERS and not value:
                memo.setdefault(id(value), type(value)())
    found = copy.deepcopy(model, memo)
    forget(found)
    return found


def output_tensors(out: Any) -> list[Tensor]:
    """Return every tensor in a model's output, looking into any container or plain object.

    Raises:
        UntraceableError: A part of the output cannot be looked into.
    """
    found: list[Tensor] = []
    seen: set[int] = set()

    def walk(value: Any) -> None:
        if isinstance(value, Tensor):
            found.append(value)
        elif value is None or isinstance(value, str | bytes | int | float | complex | type):
            return
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, Mapping):
                parts = list(value.values())
            elif isinstance(value, Iterable):
                parts = list(value)
            elif hasattr(value, "__dict__"):
                parts = list(vars(value).values())
            elif isinstance(value, torch.dtype | torch.device | torch.layout):
                parts = []
            else:
                raise UntraceableError(
                    f"the output holds a {type(value).__name__}, which cannot be looked into for "
                    "tensors; return tensors in tuples, dicts or dataclasses."
                )
            for part in parts:
                walk(part)

    walk(out)
    return found
