"""ONNX: one file, checked against the model before it takes its name."""

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import chain
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from prunus.errors import ExportError
from prunus.files import atomic
from prunus.types import Example, call_arguments

OPSET = 23
"""The newest operator set that torch's exporter translates to without a later conversion."""

TOLERANCE = 1e-4
"""Largest difference between ONNX Runtime and torch, as a fraction of the output's scale."""

_MAX_BYTES = 2**31 - 1  # what one protobuf message, hence one self-contained file, can hold


def export_onnx(
    model: nn.Module, example: Example, path: Path | str, *, dynamic_batch: bool = True
) -> Path:
    """Write `model` as one self-contained ONNX file in float32 and evaluation mode.

    Torch's dynamo exporter does the work; it folds batch normalisation into the convolution before
    it. The file is run in ONNX Runtime on `example` and, with `dynamic_batch`, on one more row, and
    takes its name only if every output is within 1e-4 of torch's, relative to that output's largest
    absolute value. A copy of `model` is exported, so that the model keeps its mode, type, and
    device.

    Args:
        model: Any module; moved to the CPU and to float32 in the copy.
        example: The model's input. The first dimension of its first tensor is the batch size; every
            other tensor whose first dimension is equal is taken to have the batch there too.
        path: Where to; replaced if it exists, left alone if anything fails.
        dynamic_batch: Leave the batch size open; otherwise it is that of `example`.

    Returns:
        `path`.

    Raises:
        ExportError: The model cannot be copied, run, or exported, weighs 2 GiB or more, or the file
            and the model disagree.
        ValueError: `example` has no tensor with a batch dimension.
        OSError: `path` cannot be written.
    """
    path = Path(path)
    name = type(model).__name__
    exported = exportable(model)
    size = sum(tensor.nbytes for tensor in chain(exported.parameters(), exported.buffers()))
    if size > _MAX_BYTES:
        raise ExportError(
            f"{name} has {size / 2**30:.1f} GiB of weights, but one ONNX file holds less than "
            "2 GiB; prune it further, or export it in parts."
        )
    example = on_cpu(example)
    inputs = {"the example": example}
    if dynamic_batch:
        inputs["the example and one more row"] = _with_one_more_row(example)
    expected = {label: _run_torch(exported, value, label) for label, value in inputs.items()}

    program = _export(exported, example, dynamic_batch)
    with atomic(path) as temporary:
        program.save(temporary, external_data=False)
        session = _session(temporary, name)
        for label, value in inputs.items():
            _compare(session, value, expected[label], f"{name} on {label}")
    return path


def exportable(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU, in float32 and evaluation mode.

    Raises:
        ExportError: It cannot be copied.
    """
    try:
        return copy.deepcopy(model).cpu().float().eval()
    except Exception as error:
        raise ExportError(
            f"{type(model).__name__} cannot be copied ({_summary(error)}); export works on a copy. "
            "Remove what copy.deepcopy refuses, such as an old-style weight_norm or an open file."
        ) from error


def on_cpu(example: Example) -> Example:
    """Return an input as `exportable` takes it: on the CPU, in float32."""

    def convert(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu()
        return tensor.float() if tensor.is_floating_point() else tensor

    return pytree.tree_map_only(Tensor, convert, example)  # type: ignore[no-any-return]


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _batch_size(example: Example) -> int:
    for tensor in _tensors(example):
        if tensor.ndim:
            return tensor.shape[0]
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
def _run_torch(model: nn.Module, example: Example, label: str) -> list[Tensor]:
    args, kwargs = call_arguments(example)
    try:
        outputs = _tensors(model(*args, **kwargs))
    except Exception as error:
        raise ExportError(
            f"{type(model).__name__} cannot be run on {label} in float32 on the CPU "
            f"({_summary(error)}); correct the example, or pass dynamic_batch=False if the model "
            "has a fixed batch size."
        ) from error
    if not all(output.isfinite().all() for output in outputs):
        raise ExportError(
            f"{type(model).__name__} gives NaN or infinity on {label}, so that no export can be "
            "checked; look for broken weights or batch statistics."
        )
    return outputs


def _export(model: nn.Module, example: Example, dynamic_batch: bool) -> torch.onnx.ONNXProgram:
    args, kwargs = call_arguments(example)
    batch = _batch_size(example) if dynamic_batch else None

    def dynamic(leaf: object) -> dict[int, object] | None:
        is_batched = isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == batch
        return {0: Dim.DYNAMIC} if is_batched else None

    shapes = pytree.tree_map(dynamic, kwargs or args) if dynamic_batch else None
    try:
        with silence():
            program = torch.onnx.export(
                model,
                args,
                kwargs=kwargs,
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(
            f"{type(model).__name__} cannot be exported to ONNX "
            f"({_summary(error.__cause__ or error)}); take out what depends on the values of "
            "tensors, or pass dynamic_batch=False if the model has a fixed batch size."
        ) from error
    if program is None:
        raise ExportError(f"the exporter of torch {torch.__version__} returned nothing; update it.")
    return program


def _session(path: Path, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load the export of {name} "
            f"({_summary(error)}); a newer onnxruntime may know the operator."
        ) from error


def _compare(
    session: onnxruntime.InferenceSession, example: Example, expected: list[Tensor], what: str
) -> None:
    names = [value.name for value in session.get_inputs()]
    arrays = [tensor.numpy() for tensor in _tensors(example)]
    try:
        got = session.run(None, dict(zip(names, arrays, strict=True)))
    except Exception as error:
        raise ExportError(
            f"ONNX Runtime cannot run {what} ({_summary(error)}); pass dynamic_batch=False if the "
            "model has a fixed batch size."
        ) from error
    if len(got) != len(expected):
        raise ExportError(f"{what}: the file has {len(got)} outputs, the model {len(expected)}.")
    for number, (array, tensor) in enumerate(zip(got, expected, strict=True)):
        difference = _relative_difference(torch.as_tensor(array), tensor)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{what}: output {number} in ONNX Runtime differs from torch by {difference:.1e} "
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


def _summary(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


@contextmanager
def silence() -> Iterator[None]:
    """Keep the exporter's progress, warnings, and log lines from the terminal."""
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
