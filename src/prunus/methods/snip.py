"""Connections by their sensitivity, before training.

Source: Lee, Ajanthan and Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity",
ICLR 2019, arXiv:1810.02340, section 4.
Deviation: the paper initialises with variance scaling; the network is taken as it is.
"""

from prunus.criteria import Connection
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import TopK
from prunus.space import Unstructured
from prunus.types import Target


@naming
def snip(*, skip: tuple[str, ...] = ()) -> Method:
    """Remove the connections that the loss of a few batches depends on least, before training.

    Args:
        skip: Shell patterns of parameter names to leave whole.
    """
    return Method(
        name="snip",
        granularity=Unstructured(skip=skip),
        criterion=Connection(),
        selector=TopK(scope="global"),
        target=Target(sparsity=0.9),
        before_training=True,
    )
