"""Networks of the pruned one's cost that have other widths, or another mask.

Source: Liu et al., ICLR 2019, arXiv:1810.05270, section 5: is what a method finds worth more than
the same share of every layer (uniform), and does its pattern design networks (guided, transferred)?
Deviation: all cost what the method's own network costs, so that they are compared at one size; for
that, the shares of a pattern are multiplied by one factor. The paper takes them as they are, as
`prunus.methods.guided(pattern)` does, and compares over a sweep of sizes.
"""

from torch import nn

from prunus.criteria import Pattern, Random, pattern
from prunus.files import read_tensors
from prunus.methods import Method, guided
from prunus.pruning import Result, prune
from prunus.recipe import Recipe
from prunus.run.equal_size import size_of
from prunus.run.masks import units
from prunus.run.stages import Done
from prunus.selectors import TopK
from prunus.space import trace_for
from prunus.types import Example, Mask, Target


def found(recipe: Recipe, network: nn.Module, example: Example, pruned: Done) -> Pattern:
    """Return the pattern that a recipe's method has left of its network.

    Args:
        recipe: The recipe.
        network: Its network, with any weights.
        example: An input.
        pruned: Its stage `prune`.
    """
    granularity = recipe.method.build().granularity
    space = trace_for(granularity, network, example)
    return pattern(granularity.groups(space), units(space, granularity, _mask(pruned)))


def shaped(
    recipe: Recipe, network: nn.Module, example: Example, pruned: Done, given: Pattern | None
) -> Result:
    """Prune a network by a pattern to the cost that a recipe's method has reached.

    Args:
        recipe: The recipe.
        network: Its network; its weights do not matter, and it stays as it was.
        example: An input.
        pruned: Its stage `prune`.
        given: The pattern; without one, the same share of every layer goes.

    Raises:
        TargetError: The cost cannot be reached.
    """
    granularity = recipe.method.build().granularity
    chosen = Method(
        name="uniform",
        granularity=granularity,
        criterion=Random(),
        selector=TopK(scope="layer"),
    )
    if given is not None:
        chosen = guided(given, granularity=granularity, scaled=True)
    report = pruned.result["report"]
    if report["form"] == "masked":
        keep = units(trace_for(granularity, network, example), granularity, _mask(pruned)).values()
        kept = sum(int(one.sum()) for one in keep)
        target = Target(density=kept / sum(one.numel() for one in keep))
    else:
        target = Target.of(*size_of(report))
    return prune(network, example, method=chosen, target=target, seed=recipe.seed)


def _mask(pruned: Done) -> Mask:
    return read_tensors(pruned.directory / "mask.safetensors")[0]
