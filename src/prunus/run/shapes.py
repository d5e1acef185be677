"""Networks of the pruned one's cost that have other widths, or another mask.

Source: Liu et al., ICLR 2019, arXiv:1810.05270, section 5: is what a method finds worth more than
the same share of every layer (uniform), and does its pattern design networks (guided, transferred)?
Deviation: all cost what the method's own network costs, so that they are compared at one size; for
that, the shares of a pattern are multiplied by one factor. The paper takes them as they are, as
`prunus.methods.guided(pattern)` does, and compares over a sweep of sizes.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from prunus.criteria import Pattern, Random, pattern
from prunus.methods import Method, guided
from prunus.pruning import Result, prune
from prunus.run.equal_size import size_of
from prunus.run.masks import units
from prunus.selectors import TopK
from prunus.space import Space
from prunus.types import Example, Mask, Target


def found(space: Space, method: Method, mask: Mask) -> Pattern:
    """Return the pattern that a method has left of a network."""
    granularity = method.granularity
    return pattern(granularity.groups(space), units(space, granularity, mask))


def equal_cost(space: Space, method: Method, mask: Mask, report: Mapping[str, Any]) -> Target:
    """Return the target that another pruning meets to cost what this one does.

    That is the cost that was aimed at, or, for single weights, their number.

    Args:
        space: Of the unpruned network.
        method: What pruned it.
        mask: What is left.
        report: On the pruned network, as plain data.
    """
    if report["form"] != "masked":
        return Target.of(*size_of(report))
    keep = units(space, method.granularity, mask).values()
    kept = sum(int(one.sum()) for one in keep)
    return Target(density=kept / sum(one.numel() for one in keep))


def shaped(
    network: nn.Module,
    example: Example,
    method: Method,
    target: Target,
    given: Pattern | None,
    seed: int,
) -> Result:
    """Prune a network to a target by a pattern; without one, the same share of every layer.

    Args:
        network: Its weights do not matter, and it stays as it was.
        example: An input.
        method: Whose units go.
        target: How small.
        given: The pattern.
        seed: Of the random choice.

    Raises:
        TargetError: The target cannot be reached.
    """
    chosen = Method(
        name="uniform",
        granularity=method.granularity,
        criterion=Random(),
        selector=TopK(scope="layer"),
    )
    if given is not None:
        chosen = guided(given, granularity=method.granularity, scaled=True)
    return prune(network, example, method=chosen, target=target, seed=seed)
