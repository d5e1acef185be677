"""The runtimes that networks are timed in, and the numbers that each computes with."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from prunus.deploy.feeds import made_up, session
from prunus.deploy.machine import has_bfloat16
from prunus.deploy.torch_runtimes import Inference, Module, compiled, eager
from prunus.errors import InferenceError
from prunus.names import did_you_mean
from prunus.types import Setting

Network: TypeAlias = Path | Module
"""What is timed: an ONNX file, or a module of PyTorch with its input."""


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    Args:
        package: That it comes with.
        takes: An ONNX file, or a module of PyTorch.
        precisions: What it computes with on processors that can.
        load: Loads what it takes and returns what runs it once.
        source: What pip installs it from, if that is not the package's name.
    """

    package: str
    takes: type
    precisions: tuple[str, ...]
    load: Callable[[Any, Setting], Inference]
    source: str = ""


def inference(network: Network, setting: Setting) -> Inference:
    """Load a network and return what runs it once, on random inputs (zeros for integers).

    It has been run once, so that a runtime that compiles at the first call has done so.

    Args:
        network: An ONNX file, for "int8" one that `quantise` wrote; or a module of PyTorch.
        setting: Where it runs.

    Raises:
        InferenceError: The runtime takes no such network, does not compute in that precision, or
            fails.
        ValueError: The runtime is unknown or not installed, or the file has another fixed batch.
        FileNotFoundError: The file is missing.
    """
    runtime = check_precision(setting.runtime, setting.precision)
    name = canonical(setting.runtime)
    if not isinstance(network, runtime.takes):
        kind = "ONNX files" if runtime.takes is Path else "modules of PyTorch"
        got = network.name if isinstance(network, Path) else type(network.model).__name__
        raise InferenceError(f"runtime '{name}' runs {kind}, got {got}.")
    if isinstance(network, Path) and not network.is_file():
        raise FileNotFoundError(f"no ONNX file at {network}")
    try:
        run = runtime.load(network, setting)
        run()
    except (ValueError, InferenceError):
        raise
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        what = network.name if isinstance(network, Path) else type(network.model).__name__
        raise InferenceError(
            f"{version_of(name)} cannot run {what} in {setting.precision} "
            f"({type(error).__name__}: {text[0][:200]}); take another runtime."
        ) from error
    return run


def check_runtime(name: str) -> Runtime:
    """Return a runtime; refuse one that is unknown or not installed.

    Raises:
        ValueError: Naming those that there are, or how to install it.
    """
    key = canonical(name)
    if key not in RUNTIMES:
        raise ValueError(
            f"runtime {name!r} is unknown; there are {', '.join(RUNTIMES)}."
            + did_you_mean(name, RUNTIMES)
        )
    found = RUNTIMES[key]
    try:
        import_module(found.package)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"runtime {name!r} is not installed; pip install {found.source or found.package}."
        ) from error
    return found


def check_precision(runtime: str, precision: str) -> Runtime:
    """Return a runtime; refuse what it does not compute with on this machine.

    Raises:
        InferenceError: It does not.
        ValueError: The runtime is unknown or not installed.
    """
    found = check_runtime(runtime)
    if precision not in found.precisions:
        others = [name for name, one in RUNTIMES.items() if precision in one.precisions]
        raise InferenceError(
            f"runtime '{canonical(runtime)}' does not compute in {precision} on a CPU; it has "
            f"{', '.join(found.precisions)}. Take {' or '.join(others)}."
        )
    if precision == "bf16" and not has_bfloat16():
        raise InferenceError(
            "this processor has no instructions for bf16, which would be emulated, or computed "
            "in fp32; take fp32 or int8."
        )
    return found


def precisions_of(runtime: str) -> tuple[str, ...]:
    """Return what a runtime computes with on this machine.

    Raises:
        ValueError: The runtime is unknown or not installed.
    """
    found = check_runtime(runtime).precisions
    return tuple(name for name in found if name != "bf16" or has_bfloat16())


def canonical(name: str) -> str:
    """Return the name under which a runtime is in `RUNTIMES`: "torch.compile" is one, too."""
    return name.replace(".", "-")


def version_of(runtime: str) -> str:
    """Return name and version."""
    name = canonical(runtime)
    return f"{name} {version(RUNTIMES[name].package)}"


def _onnxruntime(path: Path, setting: Setting) -> Inference:
    loaded = session(path, setting.threads)
    feeds = made_up(loaded.get_inputs(), setting.batch, path)
    return lambda: loaded.run(None, feeds)


def _openvino(path: Path, setting: Setting) -> Inference:
    import openvino

    # What it takes is read by one runtime for all.
    feeds = made_up(session(path).get_inputs(), setting.batch, path)
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: list(value.shape) for name, value in feeds.items()})
    # The default on some processors is bfloat16, which would be compared with float32.
    hint = "bf16" if setting.precision == "bf16" else "f32"
    config = {"INFERENCE_NUM_THREADS": setting.threads, "INFERENCE_PRECISION_HINT": hint}
    config |= {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    request = core.compile_model(model, "CPU", config).create_infer_request()
    return lambda: request.infer(feeds, share_inputs=True, share_outputs=True)


def _sparse(path: Path, setting: Setting) -> Inference:
    import prunus_engine

    feeds = made_up(session(path).get_inputs(), setting.batch, path)
    plan = prunus_engine.Plan(
        path,
        {name: value.shape for name, value in feeds.items()},
        threads=setting.threads,
        cache=prunus_engine.default_cache(),
    )
    return lambda: plan.run(feeds)


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime("onnxruntime", Path, ("fp32", "int8"), _onnxruntime),
    "openvino": Runtime("openvino", Path, ("fp32", "bf16", "int8"), _openvino),
    "sparse": Runtime(
        "prunus_engine", Path, ("fp32",), _sparse, "./engine, a folder of Prunus's repository"
    ),
    "torch-compile": Runtime("torch", Module, ("fp32", "bf16"), compiled),
    "torch": Runtime("torch", Module, ("fp32", "bf16"), eager),
}
"""By name."""
