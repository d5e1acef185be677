"""What exports have in common: a copy of the model, inputs, and what it must give for them."""

import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from prunus.errors import ExportError
from prunus.space.running import output_tensors, unfused
from prunus.types import Example, call_arguments, rows_of

TOLERANCE = 1e-4
"""Largest difference between an export and torch, as a fraction of the output's scale."""


@dataclass(frozen=True)
class Case:
    """What is exported, and what it is checked on.

    Attributes:
        name: Of the model's class.
        model: A copy on the CPU in eval mode.
        inputs: What the example is called -> it, and with an open batch one more row.
        expected: The model's outputs for each, flat, of its own operations: PyTorch's fused kernels
            of whole transformer layers would give zeros at padded positions.
        batch: Rows of the example if the batch is left open.
    """

    name: str
    model: nn.Module
    inputs: dict[str, Example]
    expected: dict[str, list[Tensor]]
    batch: int | None

    def check(self, run: Callable[[Example], Sequence[Any]], where: str) -> None:
        """Compare an export with torch on all inputs.

        Args:
            run: Gives the export's outputs for an example, flat.
            where: What runs it.

        Raises:
            ExportError: It cannot be run, or an output differs by more than 1e-4 of its scale.
        """
        for label, example in self.inputs.items():
            what = f"{self.name} on {label}"
            try:
                got = run(example)
            except Exception as error:
                raise ExportError(
                    f"{where} cannot run {what} ({summary(error)}); pass dynamic_batch=False if "
                    "the model has a fixed batch size."
                ) from error
            _compare(got, self.expected[label], what, where)

    def way_out(self, otherwise: str = "") -> str:
        """Say what to do where the exporter fails, if it is not for a name that it has itself."""
        own = (self.model.named_children(), self.model.named_parameters(recurse=False))
        names = [name for name, _ in chain(*own, self.model.named_buffers(recurse=False))]
        taken = [name for name in names if hasattr(GraphModule, name)]
        if taken:
            return f"rename what {self.name} calls {taken[0]!r}, a name that torch.export needs"
        return otherwise or (
            "take out what depends on the values of tensors, or pass dynamic_batch=False if the "
            "model has a fixed batch size"
        )

    def dynamic_shapes(self, example: Example) -> Any:
        """Say for each input which dimension is open: the first, where it is the example's batch.

        Args:
            example: One of the inputs.
        """
        if self.batch is None:
            return None
        args, kwargs = call_arguments(example)
        rows = _batch_size(example)

        def dynamic(leaf: object) -> dict[int, object] | None:
            batched = isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == rows
            return {0: Dim.DYNAMIC} if batched else None

        return pytree.tree_map(dynamic, kwargs or args)


def prepare(
    model: nn.Module,
    example: Example,
    *,
    dynamic_batch: bool,
    dtype: torch.dtype | None = None,
    holds: tuple[type, ...] = (),
) -> Case:
    """Copy a model and run it on what its export is checked on.

    Args:
        model: Stays as it was.
        example: Its input; the first dimension of its first tensor is the batch.
        dynamic_batch: Whether the batch is left open; the example is then checked with one more
            row, too.
        dtype: What the copy and the inputs are brought to; None for their own.
        holds: What an export may return in lists, tuples and dicts, beside tensors; where the model
            returns more, such as objects that hold tensors, the copy returns its tensors alone.

    Raises:
        ExportError: The model cannot be copied or run, or holds outputs that cannot be looked into.
        ValueError: `example` has no tensor with a batch dimension.
    """
    copied, example = copied_to_cpu(model, dtype), on_cpu(example, dtype)
    copied.register_forward_hook(lambda _, given, out: _plain(out, holds))
    inputs = {"the example": example}
    if dynamic_batch:
        inputs["the example and one more row"] = _with_one_more_row(example)
    expected = {label: _run(copied, value, label) for label, value in inputs.items()}
    batch = _batch_size(example) if dynamic_batch else None
    return Case(type(model).__name__, copied, inputs, expected, batch)


def copied_to_cpu(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """Return a copy in evaluation mode, in a precision or its own.

    Raises:
        ExportError: It cannot be copied.
    """
    try:
        return copy.deepcopy(model).to("cpu", dtype).eval()
    except Exception as error:
        raise ExportError(
            f"{type(model).__name__} cannot be copied ({summary(error)}); export works on a copy. "
            "Remove what copy.deepcopy refuses, such as an old-style weight_norm or an open file."
        ) from error


def on_cpu(example: Example, dtype: torch.dtype | None) -> Example:
    """Return an input on the CPU, in a precision or its own."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None)

    return pytree.tree_map_only(Tensor, convert, example)  # type: ignore[no-any-return]


def tensors(tree: object) -> list[Tensor]:
    """Return the tensors in nested containers."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _plain(out: Any, holds: tuple[type, ...]) -> Any:
    plain = all(
        leaf is None or isinstance(leaf, (Tensor, *holds)) for leaf in pytree.tree_leaves(out)
    )
    return out if plain else tuple(output_tensors(out))


def _batch_size(example: Example) -> int:
    if rows := rows_of(example):
        return rows
    raise ValueError(
        "example must hold a tensor whose first dimension is the batch, got none; "
        "pass example=torch.randn(2, 3, 32, 32), say."
    )


def _with_one_more_row(example: Example) -> Example:
    batch = _batch_size(example)
    rows = torch.arange(batch + 1) % batch

    def grow(tensor: Tensor) -> Tensor:
        return tensor[rows] if tensor.ndim and tensor.shape[0] == batch else tensor

    return pytree.tree_map_only(Tensor, grow, example)  # type: ignore[no-any-return]


@torch.no_grad()
def _run(model: nn.Module, example: Example, label: str) -> list[Tensor]:
    args, kwargs = call_arguments(example)
    try:
        with unfused():
            outputs = tensors(model(*args, **kwargs))
    except Exception as error:
        raise ExportError(
            f"{type(model).__name__} cannot be run on {label} on the CPU ({summary(error)}); "
            "correct the example, or pass dynamic_batch=False if the model has a fixed batch size."
        ) from error
    if not all(output.isfinite().all() for output in outputs):
        raise ExportError(
            f"{type(model).__name__} gives NaN or infinity on {label}, so that no export can be "
            "checked; look for broken weights or batch statistics."
        )
    return outputs


def _compare(got: Sequence[Any], expected: list[Tensor], what: str, where: str) -> None:
    if len(got) != len(expected):
        raise ExportError(f"{what}: the file has {len(got)} outputs, the model {len(expected)}.")
    for number, (value, tensor) in enumerate(zip(got, expected, strict=True)):
        difference = _relative_difference(torch.as_tensor(value), tensor)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{what}: output {number} in {where} differs from torch by {difference:.1e} "
                f"of its scale, more than {TOLERANCE:g}; nothing was written. If the model has a "
                "fixed batch size, pass dynamic_batch=False."
            )


def _relative_difference(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    difference = (got.double() - expected.double()).abs().max().item()
    scale = expected.double().abs().max().item()
    return difference / scale if scale else difference


def summary(error: BaseException) -> str:
    """Return an error's type and the first line of what it says, and the next after a colon."""
    kind, lines = type(error).__name__, str(error).strip().splitlines()
    if not lines:
        return kind
    said = lines[:2] if lines[0].endswith(":") else lines[:1]
    return f"{kind}: {' '.join(said)}"


@contextmanager
def silence() -> Iterator[None]:
    """Keep an exporter's progress, warnings, and log lines from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
