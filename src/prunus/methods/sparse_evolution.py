"""Sparse evolutionary training: the smallest weights are exchanged for random others.

Source: Mocanu, Mocanu, Stone, Nguyen, Gibescu and Liotta, "Scalable training of artificial neural
networks with adaptive sparse connectivity", Nature Communications 2018, arXiv:1707.04780.
Deviation: the smallest magnitudes go, whatever their sign, and the share that is exchanged falls
along a cosine (the paper keeps it at 0.3), as in the comparison of Evci et al.
"""

from prunus.criteria import DropGrow
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import ErdosRenyi
from prunus.space import Unstructured, WeightUnit
from prunus.types import Target


@naming
def set_(
    *,
    end: str = "1000it",
    every: str = "100it",
    fraction: float = 0.3,
    unit: WeightUnit = "weight",
    skip: tuple[str, ...] = (),
) -> Method:
    """Train sparse from the start, exchanging some of the smallest weights for random ones.

    Args:
        end: The last exchange; training should go on for a while after it.
        every: Steps between exchanges.
        fraction: Share of a layer's weights exchanged at first.
        unit: Single weights (the paper), or blocks of them; see `prunus.space.Unstructured`.
        skip: Shell patterns of parameter names to leave whole.

    Raises:
        ValueError: The fraction is outside (0, 1).
    """
    return Method(
        name="set",
        granularity=Unstructured(unit=unit, skip=skip),
        criterion=DropGrow(grow="random", fraction=fraction),
        selector=ErdosRenyi(),
        schedule=Schedule(curve="constant", end=end, every=every),
        target=Target(sparsity=0.9),
        before_training=True,
    )
