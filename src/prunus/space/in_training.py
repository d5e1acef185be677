"""The proof for train mode: outputs, statistics and gradients are those of the masked network.

What happens in training only (dropout, statistics of the batch, dropped branches) no comparison in
eval mode would see. Random operations give a settled value here, the same in both networks; where
they are used at all, the comparison is made once more with another value, so that a choice made at
random cannot have been frozen into the small network.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from prunus.errors import EquivalenceError
from prunus.space.casts import cast
from prunus.space.check import Reference
from prunus.space.decisions import Refused
from prunus.space.difference import difference
from prunus.space.inputs import cloned, varied
from prunus.space.redrawn import Index
from prunus.space.remove import sliced
from prunus.space.running import output_tensors, preserved, unfused
from prunus.space.settled import LEVELS, Settled
from prunus.space.statistics import OverRemaining
from prunus.types import Example, call_arguments

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-2}
"""Largest relative difference of outputs; gradients and statistics are held to ten times that."""

_SEEDS = range(10)  # of Python and NumPy, where they are asked: their choices must not be frozen


@dataclass(frozen=True)
class _Trained:
    outputs: list[Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    parameters: frozenset[str]
    random: bool  # whether operations of torch drew
    asked: bool  # whether Python or NumPy did
    drawn: list[tuple[str, list[torch.Size]]]


def check_training(reference: Reference, small: nn.Module, index: Index, example: Example) -> str:
    """Compare the masked network with the small one as both are trained on an example.

    Where some of what is averaged over is gone, gradients are not compared: those of the masked
    network are of averages over all.

    Args:
        reference: The masked network; it stays as it was.
        small: The network without what the mask drops.
        index: Tensor name -> dimension -> positions that stay.
        example: An input, taken with further samples where one is too few, and in float32 where
            the network knows no float64.

    Returns:
        Why nothing was compared: the network cannot be trained on the example alone, or draws
        random numbers that depend on the channels; "" where it was.

    Raises:
        EquivalenceError: The small network fails, or differs in an output, a gradient or a buffer.
    """
    first: Exception | None = None
    for one in (reference, reference.in_float32()):
        for given in (example, varied(example)):
            trained = partial(_train, _in_precision(given, one.precision), one)
            try:
                expected = trained(one.network, index)
            except Exception as error:
                first = first or error
                continue
            return _check_trained(trained, expected, one, small, index)
    return f"the network itself fails there ({type(first).__name__}: {_line(first)})"


def _in_precision(example: Example, dtype: torch.dtype) -> Example:
    found: Example = tree_map(lambda x: cast(x, dtype), example)
    return found


def _line(error: Exception | None) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


def _check_trained(
    trained: Callable[..., "_Trained"],
    expected: "_Trained",
    reference: Reference,
    small: nn.Module,
    index: Index,
) -> str:
    ways = [(level, int(level * 10)) for level in LEVELS[: 1 + expected.random]]
    ways += [(LEVELS[0], seed) for seed in _SEEDS if expected.asked]
    for k, (level, seed) in enumerate(ways):
        further = k > 0  # its gradients are those that were compared already
        how: dict[str, Any] = {"level": level, "seed": seed, "backward": not further}
        try:
            if further:
                expected = trained(reference.network, index, **how)
            got = trained(reference.candidate(small), {}, **how)
        except Refused as error:
            return str(error)
        except Exception as error:
            raise EquivalenceError(
                f"the small network fails in train mode, where the dense one runs: {error}"
            ) from error
        if got.drawn != expected.drawn:
            return f"{expected.drawn[0][0]} draws random numbers that depend on the channels"
        _compare(expected, got, TOLERANCE[reference.dtype])
    return ""


def _train(
    example: Example,
    reference: Reference,
    network: nn.Module,
    index: Index,
    *,
    level: float = LEVELS[0],
    seed: int = int(LEVELS[0] * 10),
    backward: bool = True,
) -> _Trained:
    """Train a network, which stays as it was, and return what is left of it in `index`."""
    averages = reference.averages if reference.averages_less else ()
    backward = backward and not averages
    if network is not reference.network:
        averages = ()
    args, kwargs = call_arguments(cloned(example))
    gradients: dict[str, Tensor] = {}

    def left(name: str, x: Tensor) -> Tensor:
        return sliced(x.detach(), dict(index.get(name, {})))

    def take(name: str, parameter: Tensor) -> None:
        """Keep what is left of a gradient, and free the whole."""
        assert parameter.grad is not None
        found = left(name, parameter.grad)
        gradients[name] = gradients[name] + found if name in gradients else found
        parameter.grad = None

    hooks = [
        parameter.register_post_accumulate_grad_hook(partial(take, name))  # type: ignore[no-untyped-call]
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    ]
    try:
        with (
            preserved(network, training=True),
            _seeded(seed) as drawn,
            reference.casts(),
            OverRemaining(averages) if averages else nullcontext(),
            torch.set_grad_enabled(backward),
            Settled(level) as settled,
        ):
            found = output_tensors(network(*args, **kwargs))
            losses = [_weighed(x) for x in found if x.requires_grad]
            if losses:
                torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            buffers = {name: left(name, buffer).clone() for name, buffer in network.named_buffers()}
            asked = drawn()
    finally:
        for hook in hooks:
            hook.remove()
    names = [name for name, _ in network.named_parameters()]
    gradients = {name: gradients[name] for name in names if name in gradients}
    outputs = [x.detach() for x in found]
    parameters = frozenset(names)
    return _Trained(outputs, gradients, buffers, parameters, settled.used, asked, settled.drawn)


def _weighed(x: Tensor) -> Tensor:
    """Return a sum in which no two entries count alike."""
    x = torch.view_as_real(x) if x.is_complex() else x
    return (x * torch.arange(1, x.numel() + 1, device=x.device).cos().view(x.shape)).sum()


@contextmanager
def _seeded(seed: int) -> Iterator[Any]:
    """Seed Python's and NumPy's random numbers for a while; yields whether any were drawn."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    fresh = random.getstate(), repr(np.random.get_state())
    try:
        with unfused(), torch.random.fork_rng():
            yield lambda: (random.getstate(), repr(np.random.get_state())) != fresh
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _compare(expected: _Trained, got: _Trained, tolerance: float) -> None:
    apart = difference(expected.outputs, got.outputs)
    if not apart <= tolerance:
        raise EquivalenceError(f"its outputs in train mode differ by {apart:.2g}")
    sizes = [float(g.abs().max()) for g in expected.gradients.values() if g.numel()]
    largest = max(sizes, default=0.0)
    for what, ours, theirs in (
        ("gradient", got.gradients, expected.gradients),
        ("buffer", got.buffers, expected.buffers),
    ):
        for name, value in ours.items():
            wanted = theirs.get(name)
            if wanted is None and what == "buffer":
                continue  # a constant of the graph
            wanted = torch.zeros_like(value) if wanted is None else wanted
            scale = largest if what == "gradient" else 1.0
            if not _near(value, wanted, scale, 10 * tolerance):
                raise EquivalenceError(f"the {what} of {name!r} in train mode is another")
    for name, wanted in expected.gradients.items():
        if name in got.gradients or name not in got.parameters or not wanted.numel():
            continue
        if not _near(torch.zeros_like(wanted), wanted, largest, 10 * tolerance):
            raise EquivalenceError(f"the gradient of {name!r} in train mode is missing")


def _near(a: Tensor, b: Tensor, scale: float, tolerance: float) -> bool:
    if a.shape != b.shape:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    finite = torch.equal(a.isfinite(), b.isfinite())
    apart = (a - b).abs().nan_to_num(0.0, 0.0, 0.0)
    return finite and bool((apart <= tolerance * (scale + b.abs().nan_to_num())).all())
