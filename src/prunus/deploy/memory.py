"""Peak memory of a network in its runtime, in a process of its own."""

import gc
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from prunus.deploy.runtimes import RUNTIMES, Network, canonical, check_precision, inference
from prunus.errors import InferenceError
from prunus.types import Setting

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # Linux, Documentation/filesystems/proc: the peak becomes what is held now


def peak_memory(network: Network, setting: Setting) -> int | None:
    """Return the most bytes that loading a network and running it took, or None.

    A fresh process imports the runtime, then loads the network and runs it some times. What it held
    before, such as the runtime's code, does not count. None where the kernel does not tell (it has
    to be Linux).

    Args:
        network: An ONNX file, or a module of PyTorch, which must be picklable.
        setting: Where it runs.

    Raises:
        InferenceError: The runtime cannot run it, or the process died: of it, or because the
            script that asks, which it imports, does so outside `if __name__ == "__main__":`.
        ValueError: The runtime is unknown or not installed.
    """
    check_precision(setting.runtime, setting.precision)
    if not (_PROCESS / "clear_refs").exists():
        return None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        try:
            return child.submit(_measure, network, setting).result()
        except BrokenProcessPool as error:
            raise InferenceError(
                f"the process that ran it in {setting.runtime} to measure its memory died: the "
                "memory was too small, or the script that asked for it measures when it is merely "
                "imported; there, put that below `if __name__ == '__main__':`."
            ) from error


def _measure(network: Network, setting: Setting) -> int | None:
    import_module(RUNTIMES[canonical(setting.runtime)].package)
    gc.collect()
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return None
    before = _status("VmRSS")
    run = inference(network, setting)
    for _ in range(3):
        run()
    return max(0, _status("VmHWM") - before)


def _status(key: str) -> int:
    """Return a line of the process's status, in bytes."""
    for line in (_PROCESS / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return 1024 * int(value.split()[0])
    raise OSError(f"the kernel does not tell {key}.")
