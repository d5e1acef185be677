"""Connections by their sensitivity, before training.

Source: Lee, Ajanthan and Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity",
ICLR 2019, arXiv:1810.02340, section 4.
Deviation: the paper initialises with variance scaling; the network is taken as it is.
"""

from prunus.criteria import Connection
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import TopK
from prunus.space import Unstructured, WeightUnit
from prunus.types import Target


@naming
def snip(*, unit: WeightUnit = "weight", skip: tuple[str, ...] = ()) -> Method:
    """Remove the connections that the loss of a few batches depends on least, before training.

    Args:
        unit: Single weights (the paper), or blocks of them; see `prunus.space.Unstructured`.
        skip: Shell patterns of parameter names to leave whole.
    """
    return Method(
        name="snip",
        granularity=Unstructured(unit=unit, skip=skip),
        criterion=Connection(),
        selector=TopK(scope="global"),
        target=Target(sparsity=0.9),
        before_training=True,
    )
