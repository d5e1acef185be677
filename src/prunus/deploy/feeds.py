"""What an ONNX file takes: its inputs by name, made up or cut from given data."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.errors import InferenceError
from prunus.types import Example

Feeds: TypeAlias = dict[str, NDArray[Any]]
"""Name of an input -> its values."""

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open an ONNX file in ONNX Runtime on the CPU.

    Raises:
        InferenceError: It cannot be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Idle threads of one file would otherwise spin into the sample of the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        raise InferenceError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path.name} "
            f"({type(error).__name__}: {text[0][:200]}); it may be damaged, or need a newer one."
        ) from error


def shapes(path: Path) -> list[str]:
    """Describe each input of an ONNX file without its batch, as "float 3x32x32".

    Raises:
        InferenceError: It cannot be loaded.
    """
    return [
        " ".join([value.type[len("tensor(") : -1], "x".join(map(str, value.shape[1:]))]).strip()
        for value in session(path).get_inputs()
    ]


def made_up(inputs: Sequence[onnxruntime.NodeArg], batch: int, path: Path) -> Feeds:
    """Return normal noise for every input, zeros for whole numbers.

    Raises:
        ValueError: The file has another fixed batch size, is open in more than the batch, or takes
            an unknown type.
    """
    fixed = inputs[0].shape[:1]
    if fixed and isinstance(fixed[0], int) and fixed[0] != batch:
        raise ValueError(
            f"{path.name} has the fixed batch size {fixed[0]}, got batch={batch}; export it with "
            "dynamic_batch=True."
        )
    return {value.name: _noise(value, batch, path) for value in inputs}


def given(
    inputs: Sequence[onnxruntime.NodeArg], examples: Iterable[Example], path: Path
) -> Iterator[Feeds]:
    """Turn inputs of the network into those of its file, of the batch size that the file takes.

    Args:
        inputs: Of the file.
        examples: Inputs of the network; their tensors, in order, are the file's inputs.
        path: The file, for messages.

    Raises:
        ValueError: An example has another number of tensors, or one of another shape.
    """
    for example in examples:
        arrays = [leaf.detach().cpu().numpy() for leaf in tree_leaves(example) if _holds(leaf)]
        if len(arrays) != len(inputs):
            raise ValueError(
                f"{path.name} takes {len(inputs)} inputs, got {len(arrays)} tensors; give what the "
                "network was exported with."
            )
        pairs = list(zip(inputs, arrays, strict=True))
        for value, array in pairs:
            _check(value, array, path)
        first, whole = inputs[0].shape[:1], arrays[0].shape[:1]
        rows = first[0] if first and isinstance(first[0], int) else (whole or (1,))[0]
        total = whole[0] if whole else rows
        for start in range(0, total - rows + 1, rows):
            yield {
                value.name: _cut(array, start, rows, total).astype(_DTYPES[value.type])
                for value, array in pairs
            }


def _holds(leaf: object) -> bool:
    return isinstance(leaf, Tensor)


def _cut(array: NDArray[Any], start: int, rows: int, total: int) -> NDArray[Any]:
    return array[start : start + rows] if array.shape[:1] == (total,) else array


def _check(value: onnxruntime.NodeArg, array: NDArray[Any], path: Path) -> None:
    wanted = value.shape
    fits = len(wanted) == array.ndim and all(
        size == got
        for size, got in zip(wanted[1:], array.shape[1:], strict=True)
        if isinstance(size, int)
    )
    if not fits:
        shape = ", ".join(["batch", *map(str, wanted[1:])])
        raise ValueError(
            f"input '{value.name}' of {path.name} must have the shape ({shape}), got "
            f"{array.shape}; give inputs such as the network was exported with."
        )
    if value.type not in _DTYPES:
        raise _unknown(value, path)


def _noise(value: onnxruntime.NodeArg, batch: int, path: Path) -> NDArray[Any]:
    first, *rest = value.shape or [None]
    if not all(isinstance(size, int) for size in rest):
        raise ValueError(
            f"input '{value.name}' of {path.name} must be open in its batch dimension alone, got "
            f"shape {value.shape}; export it with fixed sizes."
        )
    shape = [first if isinstance(first, int) else batch, *rest] if value.shape else []
    if value.type not in _DTYPES:
        raise _unknown(value, path)
    dtype = np.dtype(_DTYPES[value.type])
    if dtype.kind != "f":
        return np.zeros(shape, dtype)
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def _unknown(value: onnxruntime.NodeArg, path: Path) -> ValueError:
    return ValueError(f"input '{value.name}' of {path.name} has the unknown type {value.type}.")
