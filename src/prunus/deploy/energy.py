"""Energy of inferences, from the processor's own counters (RAPL) where they may be read.

Source: Linux, Documentation/power/powercap: `energy_uj` counts microjoules of a whole package, from
0 again after `max_energy_range_uj`. On most systems only root may read it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from prunus.deploy.torch_runtimes import Inference

POWERCAP = Path("/sys/class/powercap")

_BLOCK_S = 0.3  # the counter moves once in a millisecond
_BLOCKS = 3


@dataclass(frozen=True)
class Meter:
    """The counters of all packages: what the processor takes in all, idle parts included.

    Args:
        zones: Folder of each package -> microjoules at which its counter starts again.
    """

    zones: Mapping[Path, int]

    def read(self) -> dict[Path, int]:
        """Return what each counter shows, in microjoules."""
        return {zone: int((zone / "energy_uj").read_text()) for zone in self.zones}

    def joules_since(self, before: Mapping[Path, int]) -> float:
        """Return the energy since a reading; counters may have started again once."""
        now = self.read()
        return 1e-6 * sum((now[zone] - before[zone]) % full for zone, full in self.zones.items())


def meter(root: Path = POWERCAP) -> Meter | None:
    """Return the counters of this machine; None where there are none, or they may not be read."""
    zones = {}
    for zone in sorted(root.glob("intel-rapl:*")):
        if zone.name.count(":") > 1:  # a part of a package, which counts it, too
            continue
        try:
            if (zone / "name").read_text().startswith("package"):
                zones[zone] = int((zone / "max_energy_range_uj").read_text()) + 1
                (zone / "energy_uj").read_text()
        except (OSError, ValueError):
            return None
    return Meter(zones) if zones else None


def joules(
    runs: Mapping[str, Inference],
    counters: Meter,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, float]:
    """Return the energy of one inference of each, in joules: the median of blocks taken in turn.

    It is all that the processor takes meanwhile: other programs and idling count.

    Args:
        runs: Name -> what runs it once.
        counters: See `meter`.
        clock: In seconds.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_BLOCKS):
        for name, run in runs.items():
            before, start, count = counters.read(), clock(), 0
            while clock() - start < _BLOCK_S:
                run()
                count += 1
            found[name].append(counters.joules_since(before) / count)
    return {name: median(values) for name, values in found.items()}
