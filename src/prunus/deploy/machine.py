"""The machine, on which every measured time depends."""

import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")

_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the last is Arm's
_TOLD = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_TOLD_ARM = ("asimd", "asimddp", "i8mm", "bf16", "sve")


def machine() -> dict[str, Any]:
    """Describe the machine as plain data: what is not known is None.

    Returns:
        "processor", "cores", "instructions" (those that decide about speed), "memory" in bytes,
        "system", and "load": how many processes wanted a core over the last minute; above the
        number of cores, times are those of a busy machine.
    """
    instructions = [name for name in (*_TOLD, *_TOLD_ARM) if name in flags()]
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "instructions": " ".join(instructions) or None,
        "memory": _memory(),
        "system": platform.platform(terse=True),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    """Return the processor's name."""
    # platform.processor() is empty or "x86_64" on Linux, where the kernel knows the name.
    names = _of_cpuinfo("model name")
    return names[0] if names else platform.processor() or platform.machine()


def has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 itself, as far as the kernel says."""
    return bool(_BFLOAT16 & flags())


@lru_cache(maxsize=1)
def flags() -> frozenset[str]:
    """Return the processor's features as Linux names them; none elsewhere."""
    found = _of_cpuinfo("flags") or _of_cpuinfo("Features")
    return frozenset(found[0].split()) if found else frozenset()


def _of_cpuinfo(key: str) -> list[str]:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in pairs if name.strip() == key]


def _memory() -> int | None:
    try:
        first = _MEMINFO.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return None
    return 1024 * int(first.split()[1])
