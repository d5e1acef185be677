"""How long a participant takes for one round of training, as a function of the weights it keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import nnls

from prunus.space import UnitGroup, first_match

_PASSES = 3  # a backward pass takes two forward ones


@dataclass(frozen=True, kw_only=True)
class TimeModel:
    """Seconds of a round: linear in the number of kept weights of each layer.

    steps * (constant + sum of compute * kept weights) + communication * kept weights. A layer
    without a coefficient of its own takes 3 multiply-accumulates per kept weight, position and
    sample: forward, and backward to weights and inputs.

    Source: Jiang et al., IEEE TNNLS 2022, arXiv:1909.12326, section IV; sparse kernels on the
    device, whose time falls with each weight.

    Args:
        constant: Seconds of a local step whatever is kept.
        compute: Shell pattern of parameter names -> seconds per kept weight and local step.
        communication: Seconds per kept weight to receive it and send it back, in float32.
        steps: Local steps in a round.
        macs_per_second: Of layers without a coefficient.
        samples: In a local step, for layers without a coefficient.

    Raises:
        ValueError: A number is negative, or nothing takes constant time.
    """

    constant: float = 0.1
    compute: Mapping[str, float] = field(default_factory=dict)
    communication: float = 5.56e-6
    steps: int = 1
    macs_per_second: float = 1e9
    samples: int = 20

    def __post_init__(self) -> None:
        if not self.constant > 0:
            raise ValueError(
                f"constant must be above 0 s, got {self.constant:g}: without it a network of no "
                "weights would be infinitely fast."
            )
        if self.communication < 0 or any(value < 0 for value in self.compute.values()):
            raise ValueError("seconds per weight must be at least 0.")
        if not self.macs_per_second > 0 or self.steps < 1 or self.samples < 1:
            raise ValueError("macs_per_second, steps and samples must be above 0.")

    def compute_seconds(self, group: UnitGroup) -> float:
        """Return the seconds that a kept weight of the group takes in one local step."""
        own = first_match(group.name, self.compute, None)
        if own is not None:
            return own
        return _PASSES * self.samples * group.positions / self.macs_per_second

    def weight_seconds(self, group: UnitGroup) -> float:
        """Return the seconds that a kept weight of the group takes in one round."""
        return self.steps * self.compute_seconds(group) + self.communication

    def training_seconds(
        self, groups: Sequence[UnitGroup], kept: Sequence[int], *, dense_gradients: bool = False
    ) -> float:
        """Return the seconds of a round's local steps, without communication.

        Args:
            groups: The layers.
            kept: Of each, the number of weights that stay.
            dense_gradients: Whether masked weights get gradients, too, which are one of the three
                products of a step.
        """
        own = 0.0
        for group, count in zip(groups, kept, strict=True):
            more = (group.size - count) / _PASSES if dense_gradients else 0.0
            own += self.compute_seconds(group) * (count + more)
        return self.steps * (self.constant + own)

    @property
    def constant_seconds(self) -> float:
        """Seconds of a round whatever is kept."""
        return self.steps * self.constant


TIME_MODELS: dict[str, TimeModel] = {
    "by_macs": TimeModel(),
    "raspberry_pi_conv2": TimeModel(
        constant=1.249,
        compute={
            "features.0.weight": 0.0,
            "features.3.weight": 7.10e-6,
            "classifier.0.weight": 1.93e-7,
            "classifier.2.weight": 1.78e-7,
        },
    ),
}
"""Time models by name. The first is for any network. The second has the coefficients that the
authors of PruneFL measured for their network for FEMNIST ("prunefl_conv2") with sparse kernels on a
Raspberry Pi, and published in their code; they say nothing of other networks."""


def fit_time_model(
    densities: Sequence[Sequence[float]], seconds: Sequence[float]
) -> tuple[float, list[float]]:
    """Fit times that were measured at several densities, by least squares, none of them negative.

    Args:
        densities: Of each measurement the share of weights kept in each layer, in [0, 1].
        seconds: What each took.

    Returns:
        The constant, and for each layer the seconds that it takes when dense.

    Raises:
        ValueError: There are fewer measurements than numbers to find, or they do not match.

    Example:
        >>> constant, layers = fit_time_model([[1, 1], [0.5, 1], [1, 0.5]], [6.0, 5.0, 4.5])
        >>> round(constant, 6), [round(x, 6) for x in layers]
        (1.0, [2.0, 3.0])
    """
    table = np.asarray(densities, dtype=np.float64)
    times = np.asarray(seconds, dtype=np.float64)
    if table.ndim != 2 or times.shape != table.shape[:1]:
        raise ValueError(
            "densities must have one row of equal length per measurement, got shape "
            f"{table.shape} for {times.size} times."
        )
    if len(times) <= table.shape[1]:
        raise ValueError(
            f"{table.shape[1]} layers and the constant need {table.shape[1] + 1} measurements or "
            f"more, got {len(times)}; measure at more densities."
        )
    solution, _ = nnls(np.column_stack([np.ones(len(table)), table]), times)
    return float(solution[0]), [float(value) for value in solution[1:]]
