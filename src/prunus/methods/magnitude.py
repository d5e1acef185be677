"""One-shot magnitude pruning of single weights, blocks or kernels.

Source: Han, Pool, Tran and Dally, NeurIPS 2015, arXiv:1506.02626, in the one-shot global form of
Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, arXiv:1810.05270, section 4.
Deviation: the share is an exact count (the papers' codes prune every weight tied with the
threshold), and linear layers are pruned too unless layers="conv".
"""

from typing import Literal

from prunus.criteria import L1
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import TopK
from prunus.space import Unstructured, WeightUnit
from prunus.types import Target


@naming
def magnitude(
    *,
    unit: WeightUnit = "weight",
    permute: bool = False,
    scope: Literal["global", "layer"] = "global",
    layers: Literal["all", "conv"] = "all",
    embeddings: bool = False,
    skip: tuple[str, ...] = (),
) -> Method:
    """Remove the weights, blocks or kernels of smallest magnitude, once.

    Args:
        unit: See `prunus.space.Unstructured`; blocks and kernels are ranked by their mean |w|.
        permute: Put output channels together that blocks lose least of, at first.
        scope: One threshold for the whole network, or the same share in every layer.
        layers: "conv" leaves linear layers whole, as in the comparison of Liu et al.
        embeddings: Also the entries of embeddings.
        skip: Shell patterns of parameter names to leave whole.
    """
    return Method(
        name="magnitude",
        granularity=Unstructured(
            unit=unit, permute=permute, layers=layers, embeddings=embeddings, skip=skip
        ),
        criterion=L1(reduce="mean"),
        selector=TopK(scope=scope),
        target=Target(sparsity=0.9),
    )
