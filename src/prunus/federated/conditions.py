"""Who takes part in a round, who drops out, and what the simulated clock shows."""

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prunus.federated.recipe import Clients

_DRAW, _DROP, _DEAL = 1, 2, 3  # separate streams of random numbers


@dataclass(frozen=True)
class Conditions:
    """The clients' differences, as pure functions of the seed and the round.

    Args:
        table: What the recipe says of clients.
        samples: Client -> its training samples.
        seed: Of every draw.
    """

    table: Clients
    samples: dict[str, int]
    seed: int

    def participants(self, round_: int) -> dict[str, float]:
        """Return who is asked in a round -> what each update weighs, not yet divided by the sum."""
        names = sorted(self.samples)
        chance = np.random.default_rng([self.seed, round_, _DRAW])
        count = min(self.table.per_round, len(names))
        if self.table.sampling == "samples":
            sizes = np.array([self.samples[name] for name in names], dtype=np.float64)
            drawn = Counter(chance.choice(len(names), count, p=sizes / sizes.sum()).tolist())
            return {names[k]: float(drawn[k]) for k in sorted(drawn)}
        chosen = sorted(chance.choice(len(names), count, replace=False).tolist())
        return {names[k]: float(self.samples[names[k]]) for k in chosen}

    def dropped(self, round_: int) -> set[str]:
        """Return which clients would not answer in a round."""
        names = sorted(self.samples)
        chance = np.random.default_rng([self.seed, round_, _DROP])
        gone = chance.random(len(names)) < self.table.dropout
        return {name for name, out in zip(names, gone, strict=True) if out}

    def profile(self, name: str) -> tuple[float, float]:
        """Return a client's speed and bandwidth relative to the time model."""
        chance = np.random.default_rng([self.seed, zlib.crc32(name.encode()), _DEAL])
        return (
            float(chance.choice(self.table.speeds)),
            float(chance.choice(self.table.bandwidths)),
        )

    def seconds(self, name: str, training: float, sending: float) -> float:
        """Return how long a round takes a client.

        Args:
            name: The client.
            training: Seconds of its local steps by the time model.
            sending: Seconds of all its bytes, both ways, by the time model.
        """
        speed, bandwidth = self.profile(name)
        return training / speed + sending / bandwidth

    def round_seconds(self, answered: Mapping[str, float], missing: bool) -> float:
        """Return how long the server waits: for the slowest, or until the deadline.

        Args:
            answered: Client -> its seconds.
            missing: Whether someone never answered.
        """
        deadline = self.table.deadline
        slowest = max(answered.values(), default=0.0)
        if deadline is not None:
            return deadline if missing or not answered else min(deadline, slowest)
        return slowest
