"""What is delivered, side by side: dense and pruned, in every precision of the runtime."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunus.deploy.int8 import Quantised
from prunus.deploy.runtimes import Network, precisions_of
from prunus.deploy.timing import Latency, Speedup, measure, speedup, steady_clock
from prunus.types import Setting


@dataclass(frozen=True)
class Delivered:
    """A network in one precision.

    Args:
        network: Its name, such as "pruned".
        precision: Its numbers.
        bytes: Of its file; None for a module.
        latency: Its time.
        speedup: Over the first network in float32; None for that one.
        difference: Of an int8 file: see `Quantised`.
        agreement: Of an int8 file: see `Quantised`.
    """

    network: str
    precision: str
    bytes: int | None
    latency: Latency
    speedup: Speedup | None
    difference: float | None = None
    agreement: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        time = self.latency
        return {
            "network": self.network,
            "precision": self.precision,
            "bytes": self.bytes,
            "latency_ms": {"median": time.median_ms, "low": time.low_ms, "high": time.high_ms},
            "speedup": asdict(self.speedup) if self.speedup else None,
            "difference": self.difference,
            "agreement": self.agreement,
        }


def side_by_side(
    networks: Mapping[str, Network],
    int8: Mapping[str, Quantised],
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    rounds: int = 50,
) -> list[Delivered]:
    """Measure networks in every precision that the runtime has here, one sample of each in turn.

    By `steady_clock`, as targets in time are.

    Args:
        networks: Name -> file or module, the reference first.
        int8: Name -> its int8 file; those that are not there are left out.
        runtime: A name of `RUNTIMES`.
        threads: Threads inside an operator.
        batch: Rows per inference.
        rounds: Samples of each.

    Returns:
        Network by network, float32 first.

    Raises:
        InferenceError: The runtime cannot run a network.
        ValueError: An argument is out of range, or the runtime is unknown or not installed.
    """
    subjects: dict[tuple[str, str], Network] = {}
    for name, network in networks.items():
        for precision in precisions_of(runtime):
            if precision != "int8":
                subjects[name, precision] = network
            elif name in int8:
                subjects[name, precision] = int8[name].path
    times = measure(
        {
            " ".join(key): (
                network,
                Setting(runtime=runtime, precision=key[1], threads=threads, batch=batch),
            )
            for key, network in subjects.items()
        },
        rounds=rounds,
        clock=steady_clock(threads),
    )
    first = next(iter(times.values()))
    return [
        Delivered(
            network=name,
            precision=precision,
            bytes=network.stat().st_size if isinstance(network, Path) else None,
            latency=time,
            speedup=None if time is first else speedup(first, time),
            difference=int8[name].difference if precision == "int8" else None,
            agreement=int8[name].agreement if precision == "int8" else None,
        )
        for ((name, precision), network), time in zip(subjects.items(), times.values(), strict=True)
    ]
