"""Weights by their size times the size of what they multiply, within each output.

Source: Sun, Liu, Bair and Kolter, "A Simple and Effective Pruning Approach for Large Language
Models" (Wanda), ICLR 2024, arXiv:2306.11695, section 3.
Deviation: all layers are scored on the dense network at once unless `layer_by_layer` is set; the
paper goes from one transformer block to the next with the inputs that the pruned ones make.
"""

from prunus.criteria import InputNorm
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import LayerByLayer, Rows
from prunus.space import Unstructured, WeightUnit
from prunus.types import Target


@naming
def wanda(
    *,
    pattern: str | None = None,
    layer_by_layer: bool = False,
    unit: WeightUnit = "weight",
    permute: bool = False,
    skip: tuple[str, ...] = (),
) -> Method:
    """Remove in every row the weights with the smallest |w| times norm of the input, once.

    Args:
        pattern: "2:4" keeps two of every four weights of adjacent inputs, as tensor cores need
            them to run faster; None for the same share of each row.
        layer_by_layer: Go from layer to layer, with the inputs that the pruned ones before make: a
            pass over the calibration for every layer.
        unit: Single weights (the paper), or blocks of them; see `prunus.space.Unstructured`.
        permute: Put output channels together that blocks lose least of, at first.
        skip: Shell patterns of parameter names to leave whole; the paper leaves the head.
    """
    rows = Rows(pattern=pattern)
    return Method(
        name="wanda",
        granularity=Unstructured(unit=unit, permute=permute, skip=skip),
        criterion=None if layer_by_layer else InputNorm(),
        selector=LayerByLayer(criterion=InputNorm(), selector=rows) if layer_by_layer else rows,
        target=Target(sparsity=0.5),
    )
