"""What Python calls while a model is recorded, replaced for one thread; others go on as ever."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import get_ident
from typing import Any
from unittest import mock

import torch
from torch import nn


@contextmanager
def replaced(
    *,
    call: Callable[..., Any],
    apply: Callable[..., Any],
    forward: Callable[..., Any],
    length: Callable[[Any], int],
) -> Iterator[None]:
    """Replace the calls of modules, functions with a backward of their own, and `len`.

    Args:
        call: Given a module and its inputs.
        apply: Given a `torch.autograd.Function` and its inputs.
        forward: Given the forward of such a function, where that has one that knows no context,
            and its inputs: one that was taken before `apply` was replaced ends there.
        length: Given what `len` is given.
    """
    applied = inspect.getattr_static(torch.autograd.Function, "apply")

    def plainly(function: Any, *args: Any) -> Any:
        return applied.__get__(None, function)(*args)

    with ExitStack() as patches:
        for kind in _derived(torch.autograd.Function):
            plain = vars(kind).get("forward")
            if isinstance(plain, staticmethod):
                own = _here(partial(forward, plain.__func__), plain.__func__)
                patches.enter_context(mock.patch.object(kind, "forward", staticmethod(own)))
        here = _here(call, nn.Module.__call__)
        patches.enter_context(mock.patch.object(nn.Module, "__call__", here))
        function = classmethod(_here(apply, plainly))
        patches.enter_context(mock.patch.object(torch.autograd.Function, "apply", function))
        patches.enter_context(mock.patch("builtins.len", _here(length, len)))
        yield


def _here(ours: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is `ours` in this thread and `plain` in all others."""
    thread = get_ident()

    def either(*args: Any, **kwargs: Any) -> Any:
        return (ours if get_ident() == thread else plain)(*args, **kwargs)

    return either


def _derived(kind: Any) -> Iterator[Any]:
    for derived in kind.__subclasses__():
        yield derived
        yield from _derived(derived)
