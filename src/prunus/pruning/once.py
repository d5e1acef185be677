"""Pruning in one call."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from prunus.criteria import Calibration
from prunus.errors import EquivalenceError
from prunus.methods import Method
from prunus.pruning.in_time import aim
from prunus.pruning.plan import Plan
from prunus.pruning.progress import tracks
from prunus.pruning.result import Result
from prunus.selectors import Decision
from prunus.space.remove import copy_sliced
from prunus.space.shrink import inexpressible
from prunus.space.unwrap import unwrapped
from prunus.types import Example, Target


@torch.inference_mode(False)  # the result is to be trained
def prune(
    model: nn.Module,
    example: Example,
    *,
    method: Method | str = "l1_filter",
    target: Target | None = None,
    optimizer: Optimizer | None = None,
    also: Sequence[Example] = (),
    exact: bool = True,
    calibration: Calibration | None = None,
    check: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> Result:
    """Return a smaller network, proved equal to the masked one; the model stays as it was.

    Args:
        model: Any network.
        example: One input tensor, a tuple of positional inputs or a dict of keyword inputs.
        method: A one-shot method, or its name. Methods that act during training need a `Pruner`.
        target: How small; the method's own target by default. A time (`latency_ms`, `speedup`) is
            met by measuring: networks are exported and timed until one is as fast as asked.
        optimizer: Goes on with the small network: parameters replaced, state sliced, and zeroed
            where single weights were removed.
        also: Further inputs, of other sizes or with other arguments, that take other ways through
            the forward. Channels are coupled by what any of them does, and the result is proved
            equal on all; costs are those of `example`.
        exact: Keep channels that a layer norm or another average runs over. With False they may go;
            averages are then over the channels that remain, and the result is proved equal to the
            masked network that averages so.
        calibration: Samples for methods that look at data: gradients, activations.
        check: Compare in float64 on the example and random inputs.
        seed: Of every random choice.
        progress: Draw on standard error how far what takes long is, where that is a terminal:
            trials, rounds, calibration, the networks timed in search of a time.

    Raises:
        TargetError: The target cannot be reached; the message says how far it got.
        ExportError: A time was asked for, but the network cannot be exported.
        InferenceError: A time was asked for in a runtime that cannot run the network.
        EquivalenceError: The small network differs from the masked one; nothing is returned.
        UntraceableError: The model fails on the example.
        TypeError: The target, method or example is of another type.
        ValueError: The method is unknown, needs training, or finds nothing to prune; or a weight
            or an output is NaN.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
        >>> small = prune(net, torch.randn(1, 8), target=Target(params=0.5)).model
        >>> small[0].out_features
        16
    """
    model = unwrapped(model)
    plan = Plan(model, example, method, target, also=also, exact=exact, calibration=calibration)
    if plan.method.during_training:
        raise ValueError(
            f"method {plan.method.name!r} prunes while the network trains; use prunus.Pruner in "
            "your training loop, or a recipe."
        )

    ordered = copy_sliced(model, plan.order) if plan.order else model

    def decide() -> Decision:
        alone = plan.stopwatch is None  # a search for a time draws its own line
        with tracks(shown=progress and alone) as plan.track:
            return plan.decide(ordered, torch.Generator().manual_seed(seed), plan.removed)

    def decision() -> Decision:
        if plan.stopwatch is None:
            return decide()
        return aim(plan, ordered, example, decide, progress=progress)

    if plan.stopwatch is not None and plan.method.structured:
        plan.probe(model, example)  # what no form can do without is not to be found at the end
    found = decision()
    try:
        return plan.conclude(ordered, found, example, optimizer, check=check, origin=model)
    except EquivalenceError:
        if not plan.method.structured:
            raise
        culprits = inexpressible(model, plan.space, found.keep, example)
        if not culprits or len(culprits) == len(plan.groups):
            raise
    plan.spare(culprits)
    return plan.conclude(model, decision(), example, optimizer, check=check)
