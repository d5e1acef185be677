"""The proof: the small network computes what the masked one did, or nothing is returned."""

import copy
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from prunus.errors import EquivalenceError
from prunus.space.casts import Casts, cast, in_precision
from prunus.space.decisions import Refused
from prunus.space.difference import difference
from prunus.space.graph_network import GraphNetwork
from prunus.space.inputs import cloned, random_inputs, resized, size_ratios
from prunus.space.masked import apply_mask
from prunus.space.redrawn import Index, redrawn
from prunus.space.running import copied, output_tensors, preserved
from prunus.space.settled import LEVELS, Settled
from prunus.space.statistics import OverRemaining
from prunus.types import Example, Mask, call_arguments

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Largest relative difference allowed, per dtype of the comparison."""

CHAOTIC = 1e-4
"""Largest tolerance for networks that amplify rounding errors, as some recurrent ones do."""

Averages: TypeAlias = Sequence[tuple[str, dict[int, Tensor]]]
"""Of each averaging operation in order, its name and what remains of its dimensions."""


@dataclass(frozen=True)
class Verification:
    """What was compared and how far apart it was.

    Attributes:
        max_relative_difference: Largest difference of an output entry, relative to the entry plus
            the size of small entries: the tenth percentile, values filled in not counted.
        tolerance: The largest difference allowed: 1e-10, in float32 1e-5, and up to 1e-4 where the
            masked network itself differs so much when its weights change in their last digit.
        dtype: "float64" or "float32": the precision of the comparison. It is float32 also where
            the network itself goes on in that, whatever it is given.
        inputs: How many inputs were compared: the example, and random ones.
        passed: Whether the difference is within the tolerance.
        untrained: Why the two were not compared in train mode; "" where they were.
        sizes: Where the forward reads the sizes of tensors: how many times the example's the
            smallest and the largest sizes were at which the two were compared. Beyond them it may
            take a way that was not compared.
    """

    max_relative_difference: float
    tolerance: float
    dtype: str
    inputs: int
    passed: bool
    untrained: str = ""
    sizes: tuple[float, float] | None = None

    def worse(self, other: "Verification") -> "Verification":
        """Return the outcome that is nearer to its tolerance, passed where both did."""
        worst = max(self, other, key=lambda one: one.max_relative_difference / one.tolerance)
        return replace(worst, inputs=self.inputs, passed=self.passed and other.passed)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@torch.inference_mode(False)
def verify(
    masked: nn.Module | Mask,
    small: nn.Module,
    example: Example,
    *,
    model: nn.Module | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    random: bool = True,
    averages: Averages = (),
) -> Verification:
    """Compare the masked network with the small one, in eval mode.

    Both are copied and computed in `dtype` on the example and on random inputs of the same shape,
    one of them with a larger batch where the original takes one.

    Args:
        masked: The masked network, or a mask; a mask needs `model`, whose tensors it multiplies.
        small: The network with the units removed.
        example: Input tensor, tuple of positional inputs or dict of keyword inputs.
        model: The original network, when `masked` is a mask.
        dtype: float64 (tolerance 1e-10) or float32 (1e-5).
        seed: Of the random inputs.
        random: Compare on random inputs too, not only on the example.
        averages: What remains of each average (`Space.remaining`), where channels inside averages
            are gone (`exact=False`): the masked network then averages over the same.

    Returns:
        What was compared; `passed` tells the verdict. It is in float32 where the network has
        operations that know no float64.

    Raises:
        EquivalenceError: The small network cannot be run, or its outputs have other shapes.
    """
    if isinstance(masked, nn.Module):
        reference = Reference(masked, {}, example, dtype, seed, random, averages)
    elif model is None:
        raise ValueError("a mask alone has no weights to compare; pass model=, the original.")
    else:
        reference = Reference(model, masked, example, dtype, seed, random, averages)
    return reference.compare(small)


class Reference:
    """The masked network, run once for all that is compared with it; for arguments see `verify`.

    Args:
        also: Further inputs that both networks must take.

    Attributes:
        lowered: Whether it computes in less than float64 although it is given that.
        draws: Whether it draws random numbers in eval mode, too, as with dropout that stays.
        sizes: How many times the example's the smallest and the largest sizes were at which
            `sizes_that_matter` has found a small network right.
    """

    def __init__(
        self,
        model: nn.Module,
        mask: Mask,
        example: Example,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        random: bool = True,
        averages: Averages = (),
        also: Sequence[Example] = (),
    ) -> None:
        if dtype not in TOLERANCE:
            raise ValueError(f"dtype must be torch.float64 or torch.float32, got {dtype}.")
        self.averages = averages
        self.lowered = False
        self.draws = False
        self.sizes = 1.0, 1.0
        self._level = LEVELS[0]
        self._required = 1 + len(also)
        self._network: nn.Module | None = None
        self._copied: tuple[nn.Module, nn.Module] | None = None
        tries = [(dtype, dtype == torch.float64), (dtype, False), (torch.float32, False)]
        for precision, kept in tries:
            self.precision, self._kept = precision, kept
            self._made_of = model, mask
            self.release()
            further = random_inputs(example, seed) if random else ()
            given = (example, *also, *further)
            self.inputs = [tree_map(lambda x: cast(x, precision), x) for x in given]  # noqa: B023
            try:
                self._found: list[list[Tensor] | None] = [
                    self._run(x) for x in self.inputs[: self._required]
                ]
            except Exception:
                if (precision, kept) == tries[-1]:
                    raise
                continue  # it knows no float64, or needs what it casts to
            break

    @property
    def network(self) -> nn.Module:
        """The masked network, made when it is needed."""
        if self._network is None:
            model, mask = self._made_of
            self._network = in_precision(model, self.precision)
            apply_mask(self._network, mask)
        return self._network

    def candidate(self, small: nn.Module) -> nn.Module:
        """Return a copy of a network in the precision of the comparison, the same each time."""
        if self._copied is None or self._copied[0] is not small:
            self._copied = None
            self._copied = small, in_precision(small, self.precision)
        return self._copied[1]

    def release(self) -> None:
        """Free the networks; what has been computed stays known."""
        self._network = self._copied = None

    @property
    def averages_less(self) -> bool:
        """Whether some of what is averaged over is gone."""
        return any(not k.all() for _, kept in self.averages for k in kept.values())

    def in_float32(self) -> "Reference":
        """Return the same network, to be run in float32."""
        other = copy.copy(self)
        other.precision, other._kept = torch.float32, False
        other.release()
        return other

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the comparison."""
        return torch.float32 if self.lowered else self.precision

    def casts(self) -> Casts:
        """Return the mode in which both networks run."""
        return Casts(keep=self._kept)

    def compare(self, small: nn.Module) -> Verification:
        """Return how far the outputs of `small` are apart.

        A graph may hold the example's batch, as one of a loop over it does: on another batch it is
        compared in `sizes_that_matter`, but here where values have decided what it is.

        Raises:
            EquivalenceError: It cannot be run, or its outputs have other shapes.
        """
        compared = []
        worst = 0.0
        for k, given in enumerate(self.inputs):
            if self._another_batch(k) and isinstance(small, GraphNetwork) and not small.looks:
                continue
            expected = self._outputs(k)
            if expected is None:
                continue
            try:
                worst = max(worst, difference(expected, self._candidate(small, given)))
            except Refused as error:
                if k < self._required:
                    raise EquivalenceError(str(error)) from error
                continue
            compared.append((given, expected))
        if self.draws:  # what a draw decides must not have been frozen into the small network
            given, self._level = self.inputs[0], LEVELS[1]
            worst = max(worst, difference(self._run(given), self._candidate(small, given)))
            self._level = LEVELS[0]
        return self._verdict(worst, compared)

    def compare_redrawn(self, small: nn.Module, index: Index) -> Verification | None:
        """Compare with random weights of the same scale, which this and the candidate keep.

        A zero-initialised head, a gate at zero or a unit that never fires hides everything before
        it, and a comparison of what is hidden proves nothing. Buffers are drawn, too, where the
        outputs then are numbers.

        Returns:
            What was compared; None where the network does not run with such weights.
        """
        given = self.inputs[0]
        for buffers in (True, False):
            with redrawn(self.network, self.candidate(small), index, buffers=buffers):
                apply_mask(self.network, self._made_of[1])
                try:
                    expected = self._run(given)
                    if any(x.isnan().any() for x in expected):
                        continue
                    worst = difference(expected, self._candidate(small, given))
                except RuntimeError:
                    continue
                return self._verdict(worst, [(given, expected)])
        return None

    def _verdict(
        self, worst: float, compared: Sequence[tuple[Example, list[Tensor]]]
    ) -> Verification:
        tolerance = TOLERANCE[torch.float32 if self.lowered else self.precision]
        if tolerance < worst <= CHAOTIC:
            tolerance = max(tolerance, min(CHAOTIC, 10 * self._sensitivity(compared)))
        name = "float32" if self.lowered else str(self.precision).removeprefix("torch.")
        return Verification(worst, tolerance, name, len(compared), worst <= tolerance)

    def sizes_that_matter(self, small: nn.Module, ratios: Sequence[float] = ()) -> str:
        """Compare on inputs of other sizes, as far as the masked network takes them.

        Args:
            small: The network without what the mask drops.
            ratios: Further sizes, as for `resized`.

        Returns:
            "" where the small network is right for all of them that can be compared, "sizes" where
            it is right for the example's sizes only, "batch" where not even another batch may be
            given.
        """
        tolerance = 10 * max(CHAOTIC if self.lowered else 0.0, TOLERANCE[self.precision])
        self.sizes = 1.0, 1.0
        larger = [x for k, x in enumerate(self.inputs) if self._another_batch(k)]
        for given in (*larger, *resized(self.inputs[0], ratios)):
            try:
                found = self._candidate(small, given)
            except Refused:
                continue
            except EquivalenceError:
                found = None
            expected = self.taken(given)
            if expected is None:
                continue
            apart = math.inf if found is None else _difference(expected, found)
            if apart > tolerance:
                # A graph is held to what it was shown; the user's own forward may be undecided.
                own = found is not None and not isinstance(small, GraphNetwork)
                if own and self._undecided(given, expected, apart):
                    continue
                return "batch" if _batches(given) != _batches(self.inputs[0]) else "sizes"
            low, high = size_ratios(self.inputs[0], given)
            self.sizes = min(self.sizes[0], low), max(self.sizes[1], high)
        return ""

    def _undecided(self, given: Example, expected: list[Tensor], apart: float) -> bool:
        """Say whether rounding decides so much there, as over which of equal boxes remain."""
        try:
            return self._sensitivity([(given, expected)]) >= apart / 10
        except Exception:  # it fails with weights a digit away
            return False

    def _another_batch(self, k: int) -> bool:
        """Say whether a random input has another batch than the example."""
        return k >= self._required and _batches(self.inputs[k]) != _batches(self.inputs[0])

    def taken(self, given: Example) -> list[Tensor] | None:
        """Return the masked network's outputs for an input; None where it does not take it."""
        try:
            if self.averages_less:  # with which it takes sizes that it does not take by itself
                _outputs(self.network, given)
            found = self._run(given)
        except Exception:
            return None
        finite = all(x.isfinite().all() for x in found if x.is_floating_point())
        return found if finite else None

    def _candidate(self, small: nn.Module, given: Example) -> list[Tensor]:
        try:
            with self.casts(), Settled(self._level):
                return _outputs(self.candidate(small), given)
        except Refused:
            raise
        except Exception as error:
            raise EquivalenceError(
                f"the small network fails where the masked one runs: {type(error).__name__}: "
                f"{error}. Its forward may have sizes written as constants, such as view(-1, 400) "
                "where flatten(1) would do."
            ) from error

    def _outputs(self, k: int) -> list[Tensor] | None:
        """Return the outputs for an input; None where the network does not take it."""
        while len(self._found) <= k:  # random inputs; those required were run at the beginning
            self._found.append(self.taken(self.inputs[len(self._found)]))
        return self._found[k]

    def _run(self, example: Example) -> list[Tensor]:
        with ExitStack() as modes:
            if self.averages:
                modes.enter_context(OverRemaining(self.averages))
            watch = modes.enter_context(self.casts())
            settled = modes.enter_context(Settled(self._level))
            found = _outputs(self.network, example)
        self.lowered |= watch.lowered
        self.draws |= settled.used or bool(settled.drawn)
        return found

    @torch.no_grad()
    def _sensitivity(self, compared: Sequence[tuple[Example, list[Tensor]]]) -> float:
        """Return how far the outputs move when the weights change in the last digit."""
        other = copy.copy(self)
        other._network = copied(self.network)
        generator = torch.Generator().manual_seed(0)
        for parameter in other.network.parameters():
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                last = torch.finfo(torch.float32 if self.lowered else parameter.dtype).eps
                step = 1 + noise.clamp(-1, 1) * last
                parameter.mul_(step.to(parameter))
        moved = [_difference(expected, other._run(given)) for given, expected in compared]
        return max(moved, default=0.0)


def _difference(expected: list[Tensor], got: list[Tensor]) -> float:
    """Return the difference of outputs; inf where they are of other shapes."""
    try:
        return difference(expected, got)
    except EquivalenceError:
        return math.inf


def _batches(example: Example) -> list[int]:
    return [len(x) for x in tree_leaves(example) if isinstance(x, Tensor) and x.ndim]


def _outputs(model: nn.Module, example: Example) -> list[Tensor]:
    args, kwargs = call_arguments(cloned(example))
    with preserved(model):
        found = output_tensors(model(*args, **kwargs))
    if not found:
        raise EquivalenceError("the outputs hold no tensor, so there is nothing to compare.")
    return found
