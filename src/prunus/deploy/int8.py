"""ONNX files in int8: static quantisation, written as quantise-dequantise pairs (QDQ).

ONNX Runtime and OpenVINO both run such a file with whole numbers. Weights have a scale per channel
and activations one per tensor, from the least and the largest value that calibration data give
them.

Source: Jacob et al., CVPR 2018, arXiv:1712.05877, section 2, of which ONNX Runtime's
`quantize_static` is an implementation.
Deviation: weights have 7 bits (`reduce_range`). Without VNNI, x86 processors add two products in 16
bits, where 8-bit weights overflow and the outputs are wrong without a word.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from prunus.deploy.case import silence
from prunus.deploy.feeds import Feeds, given, made_up, session
from prunus.errors import ExportError, InferenceError
from prunus.files import atomic
from prunus.types import Example

_SOURCE = "prunus.source"
"""Key under which a file holds the SHA-256 of the file that it was made of."""

_UNUSABLE = 1.0  # relative error of the outputs: that of zeros


@dataclass(frozen=True)
class Quantised:
    """A file in int8, and how far it is from the one that it was made of.

    Args:
        path: The file.
        difference: Of the outputs on the calibration data: the root mean square of the difference
            over that of the float32 outputs.
        agreement: Share of the calibration samples whose largest output is the same one; None
            where outputs are not (batch, classes), or the data were made up.
        samples: How many calibration samples there were.
    """

    path: Path
    difference: float
    agreement: float | None
    samples: int


def quantise(
    path: Path | str, calibration: Iterable[Example] | None = None, out: Path | str | None = None
) -> Quantised:
    """Write a float32 ONNX file in int8, beside it.

    The file takes its name only if ONNX Runtime runs it on the calibration data, with finite
    outputs that are nearer to the float32 ones than zeros would be.

    Args:
        path: The float32 file.
        calibration: Inputs of the network, some hundred samples like those that it will see; their
            tensors, in order, are the file's inputs. None for noise: then the file is as fast and
            as large as any, but what it computes is worth nothing.
        out: Where to; by default NAME-int8.onnx. The float32 file is never replaced.

    Raises:
        ExportError: Nothing in the file can be quantised, ONNX Runtime fails, or the outputs are
            too far off; nothing is written.
        ValueError: The data are none, or do not fit the file; or `out` is the float32 file.
        InferenceError: ONNX Runtime cannot load the float32 file.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    out = int8_path(path) if out is None else Path(out)
    if not path.is_file():
        raise FileNotFoundError(f"no ONNX file at {path}")
    if out.resolve() == path.resolve():
        raise ValueError(f"out must be another file than {path}, which stays; leave it out.")
    dense = session(path)
    inputs = dense.get_inputs()
    data = (
        [made_up(inputs, _fixed(inputs) or 1, path)]
        if calibration is None
        else list(given(inputs, calibration, path))
    )
    if not data:
        raise ValueError(
            "calibration must hold at least one batch of the size that the file takes "
            f"({_fixed(inputs) or 'any'}), got none."
        )
    with atomic(out) as temporary:
        _quantise(path, temporary, data)
        try:
            made = session(temporary)
        except InferenceError as error:
            raise ExportError(f"{path.name} in int8: {error} Nothing was written.") from error
        found = _compare(path.name, dense, made, data)
    difference, agreement, samples = found
    return Quantised(out, difference, None if calibration is None else agreement, samples)


def int8_path(path: Path) -> Path:
    """Return where the int8 form of a file lies: NAME-int8.onnx beside it."""
    return path.with_name(f"{path.stem}-int8.onnx")


def is_int8_of(path: Path, source: Path) -> bool:
    """Whether `path` is there, and was made of `source` as it is now."""
    if not path.is_file():
        return False
    held = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return held.get(_SOURCE) == _sha256(source)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives `quantize_static` one batch after the other."""

    def __init__(self, data: Sequence[Feeds]) -> None:
        self._data: Iterator[Feeds] = iter(data)

    def get_next(self) -> Feeds | None:
        return next(self._data, None)


def _quantise(path: Path, out: Path, data: Sequence[Feeds]) -> None:
    try:
        with silence():
            quantize_static(
                path,
                out,
                _Reader(data),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
            )
        model = onnx.load(out)
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        raise ExportError(
            f"ONNX Runtime cannot quantise {path.name} ({type(error).__name__}: {text[0][:200]}); "
            "it stays in float32."
        ) from error
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ExportError(f"nothing in {path.name} can be quantised; it stays in float32.")
    onnx.helper.set_model_props(model, {_SOURCE: _sha256(path)})
    onnx.save(model, out)


def _compare(
    name: str, dense: Any, other: Any, data: Sequence[Feeds]
) -> tuple[float, float | None, int]:
    """Return the relative difference, the share of equal largest outputs, and the samples."""
    squares, scale, equal, ranked, samples = 0.0, 0.0, 0, 0, 0
    for feeds in data:
        try:
            expected, got = dense.run(None, feeds), other.run(None, feeds)
        except Exception as error:
            raise ExportError(
                f"{name} in int8 cannot be run on the calibration data ({type(error).__name__}); "
                "nothing was written."
            ) from error
        for a, b in zip(expected, got, strict=True):
            if a.dtype.kind == "f":
                squares += float(np.square(b.astype(float) - a).sum())
                scale += float(np.square(a.astype(float)).sum())
        first = expected[0]
        samples += len(first) if first.ndim else 1
        if _is_classes(first):
            ranked += len(first)
            equal += int((first.argmax(1) == got[0].argmax(1)).sum())
    difference = (squares / scale) ** 0.5 if scale else squares**0.5
    if not difference < _UNUSABLE:
        raise ExportError(
            f"{name} in int8 is as far from float32 as zeros would be (relative error "
            f"{difference:.2g}); nothing was written. Calibrate on data such as it will see."
        )
    return difference, equal / ranked if ranked else None, samples


def _is_classes(output: NDArray[Any]) -> bool:
    return output.ndim == 2 and output.shape[1] > 1 and output.dtype.kind == "f"


def _fixed(inputs: Sequence[Any]) -> int | None:
    first = inputs[0].shape[:1]
    return first[0] if first and isinstance(first[0], int) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
