"""Gradual magnitude pruning on a cubic schedule.

Source: Zhu and Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878, section 3.
The authors prune the embedding and the softmax of their language model with its LSTM layers.
Deviation: masked weights are held at zero, so they do not come back, unless `shadow` keeps their
last values, as the authors' program does.
"""

from typing import Literal

from prunus.criteria import L1
from prunus.masking import Hard, Shadow
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import InTurn, Selector, TopK
from prunus.space import Unstructured, WeightUnit
from prunus.types import Target


@naming
def gradual(
    *,
    begin: str = "0it",
    end: str = "1000it",
    every: str = "100it",
    curve: Literal["cubic", "linear", "geometric"] = "cubic",
    initial: float = 0.0,
    scope: Literal["global", "layer"] = "layer",
    shadow: bool = False,
    order: Literal["together", "layerwise"] = "together",
    unit: WeightUnit = "weight",
    permute: bool = False,
    embeddings: bool = True,
    skip: tuple[str, ...] = (),
) -> Method:
    """Remove ever more of the smallest weights while the network trains, then let it recover.

    Args:
        begin: First update, such as "0it" or "2ep".
        end: Last update; training should go on for a while after it.
        every: Steps between updates.
        curve: How sparsity grows.
        initial: Sparsity at `begin`, in [0, 1).
        scope: The same sparsity in every layer (the paper), or one threshold over all.
        shadow: Keep the values of masked weights, frozen, so that they return when the others of
            their layer have shrunk below them.
        order: All layers "together", or "layerwise": the time is divided among the layers, and each
            goes from `initial` to its final sparsity in its own part of it, in order of use. That
            is what the paper reports for translation; it needs several updates per layer.
        unit: Single weights (the paper), or blocks of them; see `prunus.space.Unstructured`.
        permute: Put output channels together that blocks lose least of, at first.
        embeddings: Also the entries of embeddings (the paper).
        skip: Shell patterns of parameter names to leave whole; the paper leaves the first
            convolution and depthwise ones.

    Raises:
        ValueError: The order is unknown, or layers in turn are to share one threshold.
    """
    if order not in ("together", "layerwise"):
        raise ValueError(f"order must be 'together' or 'layerwise', got {order!r}.")
    layerwise = order == "layerwise"
    if layerwise and scope != "layer":
        raise ValueError(f"order 'layerwise' needs scope 'layer', got {scope!r}.")
    selector: Selector = TopK(scope=scope)
    if layerwise:
        selector = InTurn(of=selector, curve=curve, initial=initial)
    return Method(
        name="gradual",
        granularity=Unstructured(unit=unit, permute=permute, embeddings=embeddings, skip=skip),
        criterion=L1(reduce="sum" if unit == "weight" else "mean"),
        selector=selector,
        masking=Shadow if shadow else Hard,
        schedule=Schedule(
            curve="constant" if layerwise else curve,
            begin=begin,
            end=end,
            every=every,
            initial=initial,
        ),
        target=Target(sparsity=0.9),
    )
