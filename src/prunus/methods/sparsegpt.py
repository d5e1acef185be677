"""Weights by optimal brain surgery, column by column.

Source: Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
One-Shot", ICML 2023, arXiv:2301.00774, section 3.
Deviation: every layer is given the inputs that all pruned layers before it make; the paper runs
whole transformer blocks at a time. Convolutions are pruned as well, as matrix products.
"""

from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import ColumnSweep
from prunus.space import Unstructured
from prunus.types import Target


@naming
def sparsegpt(
    *,
    pattern: str | None = None,
    block: int = 128,
    damping: float = 0.01,
    samples: int = 128,
    skip: tuple[str, ...] = (),
) -> Method:
    """Remove in every layer the weights that cost least, and let the others make up for them, once.

    Args:
        pattern: "2:4" keeps two of every four weights of adjacent inputs, as tensor cores need
            them to run faster; None for the same share of each layer.
        block: Columns of a weight that compete with each other.
        damping: Added to the diagonal of the Hessian, relative to its average.
        samples: Positions (tokens, pixels) of each sample that are looked at, at most.
        skip: Shell patterns of parameter names to leave whole; the paper leaves the head.
    """
    return Method(
        name="sparsegpt",
        granularity=Unstructured(skip=skip),
        criterion=None,
        selector=ColumnSweep(pattern=pattern, block=block, damping=damping, samples=samples),
        target=Target(sparsity=0.5),
    )
