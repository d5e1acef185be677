"""The plain data that passes between the rooms."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from prunus.names import naming

Mask: TypeAlias = dict[str, Tensor]
"""Parameter or buffer name -> bool tensor of the same shape, True = kept."""

Scores: TypeAlias = dict[str, Tensor]
"""Group name -> one float per unit, larger = keep."""

Keep: TypeAlias = dict[str, Tensor]
"""Group name -> one bool per unit, True = kept."""

Example: TypeAlias = Tensor | tuple[Any, ...] | dict[str, Any]
"""A model's input: one tensor, positional inputs, or keyword inputs."""


def call_arguments(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments with which `example` is given to a model."""
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, tuple | list):
        if example and all(isinstance(part, int) for part in example):
            raise TypeError(
                f"example must hold tensors, got the numbers {tuple(example)}; for an input of "
                f"that shape pass torch.randn({', '.join(map(str, example))})."
            )
        return tuple(example), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    raise TypeError(
        "example must be a tensor, a tuple of positional inputs or a dict of keyword inputs, "
        f"got {type(example).__name__}."
    )


def rows_of(example: Example) -> int:
    """Return the first dimension of the first tensor in `example` that has any; 0 without one."""
    sizes = [len(x) for x in tree_leaves(example) if isinstance(x, Tensor) and x.ndim]
    return sizes[0] if sizes else 0


def first_sample(example: Example, copies: int = 1) -> Example:
    """Return the first sample of each tensor in `example`, so many times."""
    found: Example = tree_map_only(
        Tensor, lambda x: x[:1].expand(copies, *x.shape[1:]) if x.ndim else x, example
    )
    return found


PRECISIONS = ("fp32", "bf16", "int8")
"""What numbers a network may compute with; in which runtime: `prunus.deploy.RUNTIMES`."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and how a network runs when its time is measured.

    Args:
        runtime: A name of `prunus.deploy.RUNTIMES`.
        precision: A name of `PRECISIONS`.
        threads: Threads inside an operator.
        batch: Rows of one inference.

    Raises:
        ValueError: A number is below 1, or the precision is unknown.
        TypeError: A value is of another type.
    """

    runtime: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.runtime, str):
            raise TypeError(f"runtime must be the name of one, got {self.runtime!r}.")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}."
            )
        for name, number in (("threads", self.threads), ("batch", self.batch)):
            if not isinstance(number, int) or isinstance(number, bool):
                raise TypeError(f"{name} must be a whole number, got {number!r}.")
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}.")


@naming
@dataclass(frozen=True, kw_only=True, repr=False)
class Target:
    """How small, or how fast, the network is to become; exactly one of the first seven is set.

    Args:
        sparsity: Fraction of the prunable units removed, in [0, 1).
        density: Fraction of the prunable units kept, in (0, 1].
        params: Parameters as a fraction of the dense network, in (0, 1].
        macs: Multiply-accumulates as a fraction of the dense network, in (0, 1].
        bytes: Bytes of parameters and buffers as a fraction of the dense network, in (0, 1].
        latency_ms: Milliseconds of one inference, measured, above 0; on one thread of the
            processor's time, which on an idle machine is that of the clock.
        speedup: Time of the dense network over that of the pruned one, measured, at least 1.
        runtime: Where time is measured: a name of `prunus.deploy.RUNTIMES`.
        precision: With which numbers, of the dense network and of the pruned one: "fp32", "bf16"
            or "int8".
        threads: Threads of the runtime.
        batch: Rows of one inference.

    Raises:
        ValueError: None or several of the seven are set, or a value is out of range.
    """

    sparsity: float | None = None
    density: float | None = None
    params: float | None = None
    macs: float | None = None
    bytes: float | None = None
    latency_ms: float | None = None
    speedup: float | None = None
    runtime: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in METRICS}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            names = ", ".join(given) or "none"
            raise ValueError(f"a target has exactly one of {', '.join(METRICS)}; got {names}.")
        (name, value), *_ = given.items()
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{name} must be a number, got {value!r}.")
        low, high, interval = METRICS[name]
        inside = low <= value < high if name in ("sparsity", "speedup") else low < value <= high
        inside = inside and math.isfinite(value)
        if not inside:
            hint = f" Did you mean {value / 100:g}?" if high == 1 and 1 < value < 100 else ""
            raise ValueError(f"{name} must be in {interval}, got {value:g}.{hint}")
        if self.measuring != Setting() and not self.timed:
            raise ValueError(
                f"runtime, precision, threads and batch say where time is measured; {name} is no "
                "time. Leave them out."
            )

    def __repr__(self) -> str:
        where = ""
        if self.timed:
            where = (
                f", runtime={self.runtime!r}, precision={self.precision!r}, "
                f"threads={self.threads}, batch={self.batch}"
            )
        return f"Target({self.metric}={self.value:g}{where})"

    @staticmethod
    def of(metric: str, value: float, **where: Any) -> "Target":
        """Return a target of one of the seven, by its name; `where` says where time is measured."""
        named: dict[str, Any] = {metric: value, **where}
        return Target(**named)

    @property
    def metric(self) -> str:
        """The one of the seven that is set."""
        return next(name for name in METRICS if getattr(self, name) is not None)

    @property
    def timed(self) -> bool:
        """Whether it is a time, which is measured, rather than a count."""
        return self.metric in TIMES

    @property
    def measuring(self) -> Setting:
        """Where time is measured."""
        return Setting(
            runtime=self.runtime,
            precision=self.precision,
            threads=self.threads,
            batch=self.batch,
        )

    @property
    def value(self) -> float:
        """The value of the field that is set."""
        return float(getattr(self, self.metric))

    @property
    def kept(self) -> float:
        """The share of units, or of a cost, that stays."""
        return 1 - self.value if self.metric == "sparsity" else self.value

    @property
    def removed(self) -> float:
        """The share of units, or of a cost, that goes."""
        return self.value if self.metric == "sparsity" else 1 - self.value


TIMES = ("latency_ms", "speedup")
"""Those of a target that are measured."""

METRICS = {
    "sparsity": (0.0, 1.0, "[0, 1)"),
    "density": (0.0, 1.0, "(0, 1]"),
    "params": (0.0, 1.0, "(0, 1]"),
    "macs": (0.0, 1.0, "(0, 1]"),
    "bytes": (0.0, 1.0, "(0, 1]"),
    "latency_ms": (0.0, float("inf"), "(0, inf)"),
    "speedup": (1.0, float("inf"), "[1, inf)"),
}
"""What a target may be -> the smallest and the largest value, and how the range is written."""
