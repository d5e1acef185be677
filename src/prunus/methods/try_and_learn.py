"""Try-and-learn: an agent for each layer learns by trial which filters can go.

Source: Huang, Zhou, You and Neumann, "Learning to Prune Filters in Convolutional Neural Networks",
WACV 2018, arXiv:1801.07365, section 3.
Deviation: with a target, every layer gives the share that meets it and the agents choose which
filters; the paper's way, in which they also choose how many, is without one. Trials train on the
calibration batches only.
"""

from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import PolicyGradient
from prunus.space import Structured


@naming
def try_and_learn(
    *,
    tolerance: float = 1.0,
    samples: int = 5,
    updates: int = 100,
    trial_steps: int = 20,
    settle_steps: int = 100,
    trial_rate: float = 1e-3,
    skip: tuple[str, ...] = (),
    round_to: int = 1,
) -> Method:
    """Remove the filters that agents, trained by policy gradient on trials, learn to do without.

    Pass `Calibration(batches, validation=...)`: without validation pairs trials are judged on the
    batches that they train on, where almost any decision looks harmless. Classifiers with classes
    in dimension 1 are judged by their accuracy, others by the calibration's `metric`. This takes
    long, up to samples * updates trials for each layer; the logger "prunus" says how far it is.

    Args:
        tolerance: The drop of accuracy allowed, in points; a larger one gives a smaller network.
        samples: Decisions that an agent tries out for each update of its policy.
        updates: At most so many updates for each layer.
        trial_steps: Optimizer steps of a trial.
        settle_steps: Optimizer steps after a layer has been pruned.
        trial_rate: Their learning rate.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this where a target is given.

    Raises:
        ValueError: A setting is out of range.
    """
    return Method(
        name="try_and_learn",
        granularity=Structured(coupled=False, skip=skip),
        criterion=None,
        selector=PolicyGradient(
            tolerance=tolerance,
            samples=samples,
            updates=updates,
            trial_steps=trial_steps,
            settle_steps=settle_steps,
            trial_rate=trial_rate,
            round_to=round_to,
        ),
    )
