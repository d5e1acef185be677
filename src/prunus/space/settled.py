"""Random operations with settled values, so that networks that draw numbers can be compared."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from prunus.space.recorder import schema
from prunus.space.running import tensors_in

LEVELS = (0.3, 0.7)
"""What stands for a uniform number in [0, 1): the way that a network goes may depend on it."""


class Settled(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives random operations values that depend on no shape: dropout keeps everything.

    Attributes:
        used: Whether there was any.
        drawn: Those that have no such value, with the shapes of what they are given. They draw from
            the state that they find, and alike in both networks only where the shapes are alike.
    """

    def __init__(self, level: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._level = level
        self.used = False
        self.drawn: list[tuple[str, list[torch.Size]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, or give its settled value."""
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if name != "rrelu_with_noise" and torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        known = schema(func).defaults
        if "dropout_p" in known:  # fused attention, which draws nothing where no dropout is asked
            given = known | dict(zip(known, args, strict=False)) | kwargs
            self.used |= given["dropout_p"] > 0
            return func(**(given | {"dropout_p": 0.0}))
        self.used = True
        return self._value(name, func, args, kwargs)

    def _value(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        known = schema(func).defaults
        given = known | dict(zip(known, args, strict=False)) | kwargs
        level, base = self._level, name.rstrip("_")
        if base == "native_dropout":
            return given["input"].clone(), torch.ones_like(given["input"], dtype=torch.bool)
        if base == "rrelu_with_noise":
            x, noise = given["self"], given["noise"]
            noise.copy_(torch.where(x <= 0, (given["lower"] + given["upper"]) / 2, 1.0))
            return x * noise
        if name == "bernoulli_":
            return given["self"].copy_(torch.as_tensor(given["p"]))
        if name == "bernoulli":
            share = given.get("p")
            return given["self"].clone() if share is None else torch.full_like(given["self"], share)
        if base == "randperm":
            return torch.arange(given["n"], device=given.get("device")).roll(1)
        with torch.random.fork_rng():
            out = func(*args, **kwargs)
        if base in ("rand", "rand_like"):
            return out.fill_(level)
        if base in ("randn", "randn_like", "normal", "exponential", "log_normal", "cauchy"):
            return out.fill_(level)
        if base == "uniform":
            return out.fill_(given["from"] * (1 - level) + given["to"] * level)
        if base in ("randint", "randint_like", "random"):
            return out.fill_(given.get("low") or given.get("from") or 0)
        self.drawn.append((base, [x.shape for x in tensors_in([args, kwargs])]))
        return out
