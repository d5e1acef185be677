"""Lottery tickets: iterative magnitude pruning with rewinding.

Source: Frankle and Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural
Networks", ICLR 2019, arXiv:1803.03635, section 2 and figure 2; late rewinding: Frankle, Dziugaite,
Roy and Carbin, ICML 2020, arXiv:1912.05671; learning-rate rewinding: Renda, Frankle and Carbin,
ICLR 2020, arXiv:2003.02389.
Deviation: counts are exact, round(n (1 - rate)^k) in a layer of n weights after k rounds, where the
authors' code removes every weight tied with the threshold; the order of the data begins again with
each training, so that a ticket's training is the one a run of its own would make.
"""

from collections.abc import Mapping
from typing import Literal

from prunus.criteria import L1
from prunus.methods.base import Method
from prunus.names import naming
from prunus.recovery.rewind import Rewind
from prunus.schedules import Schedule, repeated
from prunus.selectors import Rates
from prunus.space import Unstructured, WeightUnit


@naming
def lottery(
    *,
    training: str = "160ep",
    rounds: int = 5,
    rate: float | None = None,
    rates: Mapping[str, float] | None = None,
    output: float = 0.5,
    scope: Literal["layer", "global"] = "layer",
    unit: WeightUnit = "weight",
    layers: Literal["all", "conv"] = "all",
    skip: tuple[str, ...] = (),
    rewind: str = "0it",
    weights: Literal["reset", "keep"] = "reset",
) -> Method:
    """Train, remove the smallest of what remains, go back to the start; again and again.

    The run has rounds + 1 trainings, the first of the whole network. With a target, the target
    decides where it ends and the rounds in how many equal shares; without one, the rate decides.
    `rounds=1` is the one-shot form.

    Args:
        training: How long each training is; a recipe says the same in `finetune.length`.
        rounds: How often weights are removed.
        rate: Share of a layer's remaining weights that a round removes, 0.2 if nothing is said.
            With a target it must lead there in the given rounds.
        rates: Shell pattern of parameter names -> a layer's own rate, such as 0.1 for convolutions.
        output: The rate of the last layer as a share of `rate`; only where layers are pruned apart.
        scope: "layer", or "global" for one ranking over all layers, which the paper takes for deep
            networks.
        unit: Single weights (the paper), or blocks of them; see `prunus.space.Unstructured`.
        layers: "conv" leaves linear layers whole, as the paper does in deep networks.
        skip: Shell patterns of parameter names to leave whole.
        rewind: The step that weights and learning rate go back to, such as "500it" in networks that
            have no tickets at the initialisation.
        weights: "keep" rewinds the learning rate alone.

    Raises:
        ValueError: An argument is out of range.
    """
    return Method(
        name="lottery",
        granularity=Unstructured(unit=unit, layers=layers, skip=skip),
        criterion=L1(reduce="sum" if unit == "weight" else "mean"),
        selector=Rates(
            rate=rate,
            rates=rates or {},
            last=output if scope == "layer" else 1.0,
            scope=scope,
            rounds=rounds,
        ),
        schedule=Schedule(
            curve="geometric", begin=training, every=training, end=repeated(training, rounds)
        ),
        before_training=True,
        rewind=Rewind(to=rewind, weights=weights),
    )
