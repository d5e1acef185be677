"""Gates that are exactly open or closed, and learn by gradient descent all the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from prunus.masking.base import Site
from prunus.masking.factors import Factors
from prunus.masking.learning import Learning
from prunus.types import Scores

_WIDTH = 0.25  # of the bump


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A gate b(u) in {0, 1} per unit, whose derivative is taken to be g(u).

    The gate is open where u > 0. The largest u of a layer is always open, so no layer is cut off.
    The loss is that of the task plus strength * (C(gates) / C - target)^2, where the cost C is
    bilinear in the gates of what a layer reads and makes; both reach u by the same derivative, and
    u takes steps of SGD with momentum, without weight decay, inside [-1, 1]. When the cost is
    within `tolerance` of the target the gates stay as they are, and only weights learn.

    Source: Kim, Park, Jung and Choe, "Plug-in, Trainable Gate for Streamlining
    Arbitrary Neural Networks", AAAI 2020, arXiv:1904.10921, section 3.

    Args:
        strength: Of the cost in the loss.
        shape: g: "constant" is 1 everywhere, so that closed gates can open; "bump" is
            1 - tanh(4 u)^2, which leaves gates alone that are far from 0.
        one_sided: Only a cost above the target is part of the loss.
        initial: u at the beginning, in (0, 1].
        momentum: Of the steps of u.
        speed: Learning rate of u, as a multiple of the optimizer's.
        tolerance: How near to the target the gates are final.
        sawtooth: None for the limit of fine teeth, which is exact; a number M takes the function of
            the paper itself, b(u) + s(u) g(u) with s a sawtooth of M teeth per unit of u, in
            float64, whose value is up to 1 / M above b(u).

    Raises:
        ValueError: A field is out of range.
    """

    strength: float = 10.0
    shape: Literal["constant", "bump"] = "constant"
    one_sided: bool = False
    initial: float = 0.05
    momentum: float = 0.9
    speed: float = 0.1
    tolerance: float = 0.01
    sawtooth: float | None = None

    def __post_init__(self) -> None:
        if self.shape not in ("constant", "bump"):
            raise ValueError(f"shape must be 'constant' or 'bump', got {self.shape!r}.")
        if not 0 < self.initial <= 1:
            raise ValueError(f"initial must be in (0, 1], got {self.initial:g}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum:g}.")
        if self.strength < 0 or self.speed < 0 or self.tolerance < 0:
            raise ValueError("strength, speed and tolerance must not be below 0.")
        if self.sawtooth is not None and not 0 < self.sawtooth <= 1e9:
            raise ValueError(f"sawtooth must be in (0, 1e9], got {self.sawtooth:g}.")

    def on(self, site: Site) -> "Gates":
        """Open the gates of a network.

        Raises:
            ValueError: There is no target.
        """
        return Gates(site, self)

    def values(self, u: Tensor, always: Tensor | None = None) -> Tensor:
        """Return the gates for `u`, with g(u) as their derivative.

        Args:
            u: Shape (units,).
            always: Where gates are open whatever `u`, bool.
        """
        is_open = u > 0 if always is None else (u > 0) | always
        if self.sawtooth is None:  # u - u is exactly zero, with a derivative
            return is_open.to(u) + (u - u.detach()) * self._slope(u.detach())
        fine = u.double()
        teeth = (self.sawtooth * fine - (self.sawtooth * fine).detach().floor()) / self.sawtooth
        return (is_open + teeth * self._slope(fine)).to(u)

    def _slope(self, u: Tensor) -> Tensor:
        return torch.ones_like(u) if self.shape == "constant" else 1 - (u / _WIDTH).tanh().square()


class Gates(Learning):
    """The gates of one network."""

    def __init__(self, site: Site, gate: Gate) -> None:
        if site.space is None or site.target is None:
            raise ValueError("gates learn to meet a target; give one, such as Target(macs=0.5).")
        self._gate = gate
        self._factors = Factors(site.space, site.groups)
        target = site.target
        self._metric = "density" if target.metric == "sparsity" else target.metric
        self._wanted = target.kept
        self._frozen = False
        self._cost = 1.0
        super().__init__(site, torch.full((self._factors.count,), gate.initial))

    def gates(self) -> Tensor:
        """Return the gates as they are, shape (units,)."""
        u = self.values.detach() if self._frozen else self.values
        return self._gate.values(u, self._factors.largest(u.detach()))

    def penalty(self) -> Tensor | float:
        """Return how far the cost is from the target, squared, times the strength."""
        if self._frozen:
            return 0.0
        cost = self._factors.cost(self._metric, self.gates())
        self._cost = float(cost.detach())
        excess = cost - self._wanted
        if self._gate.one_sided:
            excess = excess.clamp_min(0)
        return self._gate.strength * excess.square().float()

    def scores(self) -> Scores:
        """Return u."""
        return self._factors.by_group(self.values)

    def settle(self) -> None:
        """Leave the gates to the mask, which keeps the units of largest u."""
        self._leave()
        self._hard.apply()

    def state(self) -> Mapping[str, Tensor]:
        """Return u, its momentum, and whether the gates are final."""
        return {**super().state(), "frozen": torch.tensor(self._frozen)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore them."""
        super().load_state(state)
        self._frozen = bool(state["frozen"])

    def _standing_in(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return self._factors.multiplied(weights, self.gates())

    def _learn(self, gradient: Tensor, rate: float) -> None:
        over = self._cost - self._wanted
        self._frozen |= (over if self._gate.one_sided else abs(over)) <= self._gate.tolerance
        if not self._frozen:
            moved = self._moments[0].mul_(self._gate.momentum).add_(gradient)
            self.values.sub_(rate * self._gate.speed * moved).clamp_(-1, 1)

    def _fold(self) -> None:
        self._factors.fold(self._model, self.gates())
