"""The methods that a federation prunes by; lengths count rounds, and the server decides."""

from collections.abc import Callable

from prunus.criteria import L1, GatheredConnection, Random, RiskReduction
from prunus.masking import Remember
from prunus.methods import Method, gradual, magnitude, synflow
from prunus.methods.prunefl import prunefl, time_model
from prunus.schedules import Schedule, iterations
from prunus.selectors import Given, OnlineSize, TimeModel, TopK
from prunus.selectors.topk import Scope
from prunus.space import Structured, Unstructured
from prunus.types import Target


def dense() -> Method:
    """Prune nothing: federated averaging, of McMahan et al., AISTATS 2017, arXiv:1602.05629."""
    return Method(
        name="dense",
        granularity=Unstructured(),
        criterion=L1(),
        selector=TopK(),
        target=Target(density=1.0),
    )


def snip(*, skip: tuple[str, ...] = ()) -> Method:
    """Remove the connections that the loss depends on least, by all gradients of the first round.

    `prunus.methods.snip` scores weights that nothing has trained yet, by the gradients of a few
    batches; here clients sum theirs up while they train, and the weights after that round count.

    Args:
        skip: Shell patterns of parameter names to leave whole.
    """
    return Method(
        name="snip",
        granularity=Unstructured(skip=skip),
        criterion=GatheredConnection(),
        selector=TopK(scope="global"),
        schedule=Schedule(begin="1it"),
        target=Target(sparsity=0.9),
    )


def iterative(
    *, end: str = "5000it", prunings: int = 20, scope: Scope = "layer", skip: tuple[str, ...] = ()
) -> Method:
    """Remove the smallest weights in prunings of equal ratio, as PruneFL is compared with.

    Args:
        end: Round of the last one, half of all in the paper.
        prunings: How many, evenly spaced.
        scope: Where weights compete; in each layer in the paper.
        skip: Shell patterns of parameter names to leave whole.

    Raises:
        ValueError: There are more prunings than rounds, or they do not come out even.
    """
    rounds = iterations(end)
    if prunings < 1 or rounds % prunings:
        raise ValueError(f"prunings must divide the {rounds} rounds until the end, got {prunings}.")
    every = f"{rounds // prunings}it"
    return Method(
        name="iterative",
        granularity=Unstructured(skip=skip),
        criterion=L1(),
        selector=TopK(scope=scope),
        schedule=Schedule(curve="geometric", begin="0it", end=end, every=every),
        target=Target(sparsity=0.9),
    )


def random(*, scope: Scope = "layer", skip: tuple[str, ...] = ()) -> Method:
    """Remove weights at random before the first round.

    Args:
        scope: Where weights compete.
        skip: Shell patterns of parameter names to leave whole.
    """
    return Method(
        name="random",
        granularity=Unstructured(skip=skip),
        criterion=Random(),
        selector=TopK(scope=scope),
        target=Target(sparsity=0.9),
        before_training=True,
    )


def online(
    *,
    begin: str = "50it",
    end: str = "5000it",
    every: str = "50it",
    least: float = 0.01,
    time: str | TimeModel = "by_macs",
    skip: tuple[str, ...] = (),
) -> Method:
    """Learn the number of weights while training, by whether fewer would lower the loss faster.

    As PruneFL is compared with; the size is an outcome, and a target the highest density.

    Args:
        begin: Round of the first decision.
        end: Of the last one.
        every: Rounds between decisions.
        least: Smallest share of the weights, in (0, 1).
        time: A name of `prunus.selectors.TIME_MODELS`, or a model of your own.
        skip: Shell patterns of parameter names to leave whole.

    Raises:
        ValueError: A value is out of range, or there is no such time model.
    """
    first, last, between = map(iterations, (begin, end, every))
    decisions = 1 + max(0, last - first) // between
    return Method(
        name="online",
        granularity=Unstructured(skip=skip),
        criterion=RiskReduction(),
        selector=OnlineSize(time=time_model(time), decisions=decisions, least=least),
        masking=Remember,
        schedule=Schedule(curve="constant", begin=begin, end=end, every=every, initial=0.0),
    )


def ticket(*, mask: str, shuffled: bool = False, skip: tuple[str, ...] = ()) -> Method:
    """Begin with the mask of another run: is it a lottery ticket, and is it the mask or its size?

    With the weights that the other run began with, where the recipe has its seed; `init` in the
    recipe draws others. `shuffled` draws as many weights of every layer.

    Args:
        mask: The other run's `mask.safetensors`, on the machine of the server.
        shuffled: Keep as many weights of every layer, at random.
        skip: Shell patterns of parameter names to leave whole.
    """
    return Method(
        name="ticket",
        granularity=Unstructured(skip=skip),
        criterion=Random(),
        selector=Given(path=mask, shuffled=shuffled),
        before_training=True,
    )


def filters(
    *,
    begin: str = "0it",
    end: str = "1000it",
    every: str = "100it",
    scope: Scope = "layer",
    coupled: bool = True,
) -> Method:
    """Remove ever more of the filters of smallest L1 norm; in the end they are gone physically.

    Args:
        begin: Round of the first pruning.
        end: Of the last one.
        every: Rounds between prunings.
        scope: Where filters compete.
        coupled: Also prune what several layers write into, such as residual sums.
    """
    return Method(
        name="filters",
        granularity=Structured(coupled=coupled),
        criterion=L1(),
        selector=TopK(scope=scope),
        schedule=Schedule(curve="linear", begin=begin, end=end, every=every),
        target=Target(sparsity=0.5),
    )


METHODS: dict[str, Callable[..., Method]] = {
    "prunefl": prunefl,
    "dense": dense,
    "snip": snip,
    "synflow": synflow,
    "iterative": iterative,
    "online": online,
    "gradual": gradual,
    "magnitude": magnitude,
    "random": random,
    "ticket": ticket,
    "filters": filters,
}
"""Methods of a federation: those that decide by the server's weights and what clients sum up."""
