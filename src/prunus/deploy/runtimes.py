"""The runtimes that ONNX files are timed in."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime

from prunus.names import did_you_mean

Inference: TypeAlias = Callable[[], object]
"""Runs a file once on an input of its own."""


def inference(runtime: str, path: Path, batch: int, threads: int) -> Inference:
    """Load an ONNX file and return what runs it once, on random inputs (zeros for integers).

    Args:
        runtime: A name of `RUNTIMES`.
        path: The file.
        batch: Rows per inference.
        threads: Threads inside an operator.

    Raises:
        ValueError: The runtime is unknown or not installed, or the file has another fixed batch.
        FileNotFoundError: The file is missing.
    """
    check_runtime(runtime)
    if not path.is_file():
        raise FileNotFoundError(f"no ONNX file at {path}")
    return RUNTIMES[runtime](path, batch, threads)


def check_runtime(name: str) -> None:
    """Refuse a runtime that is unknown or not installed.

    Raises:
        ValueError: Naming those that there are, or how to install it.
    """
    if name not in RUNTIMES:
        raise ValueError(
            f"runtime {name!r} is unknown; there are {', '.join(RUNTIMES)}."
            + did_you_mean(name, RUNTIMES)
        )
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"runtime {name!r} is not installed; pip install {name}.") from error


def version_of(runtime: str) -> str:
    """Return name and version."""
    return f"{runtime} {version(runtime)}"


def _onnxruntime(path: Path, batch: int, threads: int) -> Inference:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Idle threads of one file would otherwise spin into the sample of the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = _feeds(session, batch, path)
    return lambda: session.run(None, feeds)


def _openvino(path: Path, batch: int, threads: int) -> Inference:
    import openvino

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = _feeds(session, batch, path)  # what it takes is read by one runtime for all
    del session
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: list(value.shape) for name, value in feeds.items()})
    # The default on some processors is bfloat16, which would be compared with float32.
    config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    config |= {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    request = core.compile_model(model, "CPU", config).create_infer_request()
    return lambda: request.infer(feeds, share_inputs=True, share_outputs=True)


RUNTIMES: dict[str, Callable[[Path, int, int], Inference]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
"""Name of a runtime, which is that of its package -> what loads a file into it."""

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


def _feeds(session: onnxruntime.InferenceSession, batch: int, path: Path) -> dict[str, Any]:
    fixed = session.get_inputs()[0].shape[:1]
    if fixed and isinstance(fixed[0], int) and fixed[0] != batch:
        raise ValueError(
            f"{path.name} has the fixed batch size {fixed[0]}, got batch={batch}; export it with "
            "dynamic_batch=True."
        )
    return {value.name: _input(value, batch, path) for value in session.get_inputs()}


def _input(value: onnxruntime.NodeArg, batch: int, path: Path) -> np.ndarray[Any, Any]:
    first, *rest = value.shape or [None]
    if not all(isinstance(size, int) for size in rest):
        raise ValueError(
            f"input '{value.name}' of {path.name} must be open in its batch dimension alone, got "
            f"shape {value.shape}; export it with fixed sizes."
        )
    shape = [first if isinstance(first, int) else batch, *rest] if value.shape else []
    if value.type not in _DTYPES:
        raise ValueError(f"input '{value.name}' of {path.name} has the unknown type {value.type}.")
    dtype = np.dtype(_DTYPES[value.type])
    if dtype.kind != "f":
        return np.zeros(shape, dtype)
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)
