"""RigL: the smallest weights are exchanged for those of largest gradient.

Source: Evci, Gale, Menick, Castro and Elsen, "Rigging the Lottery: Making All Tickets Winners",
ICML 2020, arXiv:1911.11134, section 3.
Deviation: the gradient is that of the last batch before the exchange, as the loop has left it, and
what an exchange has just dropped is no candidate to return in it.
"""

from prunus.criteria import DropGrow
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import ErdosRenyi
from prunus.space import Unstructured, WeightUnit
from prunus.types import Target


@naming
def rigl(
    *,
    end: str = "1000it",
    every: str = "100it",
    fraction: float = 0.3,
    unit: WeightUnit = "weight",
    skip: tuple[str, ...] = (),
) -> Method:
    """Train sparse from the start, growing weights where the loss would fall fastest.

    Args:
        end: The last exchange, three quarters of the training in the paper.
        every: Steps between exchanges.
        fraction: Share of a layer's weights exchanged at first.
        unit: Single weights (the paper), or blocks of them; see `prunus.space.Unstructured`.
        skip: Shell patterns of parameter names to leave whole.

    Raises:
        ValueError: The fraction is outside (0, 1).
    """
    return Method(
        name="rigl",
        granularity=Unstructured(unit=unit, skip=skip),
        criterion=DropGrow(grow="gradient", fraction=fraction),
        selector=ErdosRenyi(),
        schedule=Schedule(curve="constant", end=end, every=every),
        target=Target(sparsity=0.9),
        before_training=True,
    )
