"""How what a client has summed up while it trained travels to the server."""

from collections.abc import Mapping

import torch
from torch import Tensor

from prunus.errors import WireError
from prunus.federated.packet import Packet
from prunus.federated.wire import Layout, Precision
from prunus.types import Mask


def sealed(
    sums: Mapping[str, Tensor],
    layout: Layout,
    mask: Mask,
    precision: Precision = "fp32",
    share: float = 1.0,
) -> dict[str, bytes]:
    """Write down sums: of all weights, or of the kept ones and the largest others.

    In fp16 their signed roots travel, divided by the largest, so that squares that are far apart in
    size are still told apart.

    Args:
        sums: Parameter name -> float32; parameters that it lacks have had no gradient.
        layout: `Layout.of_sums` of the network.
        mask: What is kept of it.
        precision: Of the values on the way.
        share: Share of each tensor's masked weights whose sums travel, the largest in size; those
            of the others count as zero.

    Returns:
        Parts of a packet.
    """
    sums = {n: sums[n] if n in sums else torch.zeros(s) for n, s in layout.shapes.items()}
    chosen = layout.whole() if share >= 1 else _largest(sums, layout, mask, share)
    parts = {"sums.structure": layout.structure(chosen)} if share < 1 else {}
    if precision == "fp32":
        return parts | {"sums": layout.values(sums, chosen)}
    largest = max((float(x.abs().max()) for x in sums.values() if x.numel()), default=0.0)
    roots = {name: x.sign() * (x.abs() / (largest or 1.0)).sqrt() for name, x in sums.items()}
    values = layout.values(roots, chosen, precision)
    return parts | {"sums": values, "sums.largest": largest.hex().encode()}


def unsealed(packet: Packet, layout: Layout) -> dict[str, Tensor]:
    """Read what `sealed` wrote, which may come from anyone.

    Raises:
        WireError: It is damaged or of another network.
    """
    structure, largest = packet.parts.get("sums.structure"), packet.parts.get("sums.largest")
    chosen = layout.whole() if structure is None else layout.mask(structure)
    if largest is None:
        return layout.tensors(packet.part("sums"), chosen)
    try:
        factor = float.fromhex(largest.decode())
    except (ValueError, OverflowError) as error:
        raise WireError(f"the largest sum must be a number, got {largest[:20]!r}.") from error
    roots = layout.tensors(packet.part("sums"), chosen, "fp16")
    return {name: x.sign() * x.square() * factor for name, x in roots.items()}


def _largest(sums: Mapping[str, Tensor], layout: Layout, mask: Mask, share: float) -> Mask:
    """Return what is kept, and of each tensor the `share` of the rest with the largest sums."""
    chosen = {}
    for name, whole in layout.whole().items():
        kept = mask.get(name, whole).clone()
        absent = (~kept).view(-1).nonzero().ravel()
        found = sums[name].reshape(-1)[absent].abs().topk(int(share * len(absent))).indices
        kept.view(-1)[absent[found]] = True
        chosen[name] = kept
    return chosen
