"""PyTorch itself as a runtime: eager, and compiled by Inductor."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from prunus.deploy.case import copied_to_cpu, on_cpu
from prunus.types import Example, Setting, call_arguments, first_sample, rows_of

Inference: TypeAlias = Callable[[], object]
"""Runs a network once on an input of its own."""


@dataclass(frozen=True)
class Module:
    """A network that PyTorch runs.

    Args:
        model: It; a copy is run, in evaluation mode.
        example: Its input; what it is run on where its rows are the batch, else the first sample of
            it, repeated.
    """

    model: nn.Module
    example: Example


def eager(network: Module, setting: Setting) -> Inference:
    """Return what runs a copy of the module once, operation by operation."""
    return _timed(_call(network, setting), setting.threads)


def compiled(network: Module, setting: Setting) -> Inference:
    """Return what runs a copy of the module once, compiled as a whole, with its weights frozen."""
    call: Any = _call(network, setting)
    # torch.compile keeps what it compiled with the code, of which it stores so many versions only.
    call.__code__ = call.__code__.replace()
    with keeps_threads(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = _timed(
            torch.compile(call, fullgraph=True, dynamic=False, options={"freezing": True}),
            setting.threads,
        )
        run()
    return run


def _call(network: Module, setting: Setting) -> Callable[[], object]:
    model = copied_to_cpu(network.model, torch.float32)
    example = on_cpu(network.example, torch.float32)
    if rows_of(example) != setting.batch:
        example = first_sample(example, setting.batch)
    if setting.precision == "bf16":
        model = model.bfloat16()
        example = tree_map_only(
            Tensor, lambda x: x.bfloat16() if x.is_floating_point() else x, example
        )
    args, kwargs = call_arguments(example)

    def call() -> object:
        return model(*args, **kwargs)

    return call


def _timed(call: Callable[[], object], threads: int) -> Inference:
    def run() -> object:
        if torch.get_num_threads() != threads:  # which are the process's, not the network's
            torch.set_num_threads(threads)
        with torch.inference_mode():
            return call()

    return run


@contextmanager
def keeps_threads() -> Iterator[None]:
    """Give PyTorch back the threads that it had, whatever ran meanwhile."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
