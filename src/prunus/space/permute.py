"""Channels in another order, so that blocks of adjacent ones lose less: the same function.

Source: after Ji, Cui, Zhang, Bui, Gao and Chen, "Tetris", NeurIPS 2018, and Pool and Yu, "Channel
Permutations for N:M Sparsity", NeurIPS 2021, who permute what a layer reads.
Deviation: output channels are permuted, since blocks lie along them, and with them everything that
reads them, so that nothing is left to do when the network runs. Channels are put together greedily
by what their blocks would keep, without the exchanges that Pool and Yu go on with, which added
less than 0.005 of the kept magnitude on a ResNet-20.
"""

from collections.abc import Mapping, Sequence
from math import gcd

import torch
from torch import Tensor, nn

from prunus.errors import EquivalenceError
from prunus.space.check import Reference
from prunus.space.granularity import Granularity, Unstructured
from prunus.space.in_training import check_training
from prunus.space.remove import copy_sliced
from prunus.space.space import Space, trace
from prunus.space.units import ChannelGroup
from prunus.types import Example

_COLUMNS = 4096  # that are looked at of a channel group; more hardly change what goes together
_SMALL = 0.9  # of a layer's weights, which hardly count for what blocks keep


def permutation(
    granularity: Granularity, model: nn.Module, example: Example, also: Sequence[Example] = ()
) -> dict[str, dict[int, Tensor]]:
    """Return the order of channels in which blocks of adjacent ones lose least, by magnitude.

    All that go together move together: layers whose outputs are summed, their batch norms, all that
    read them. What a layer norm averages over may move, too, and channels inside of attention
    heads. The network in this order is proved to compute what it did, in train mode too; channels
    with which it would not stay in their order.

    Args:
        granularity: What one unit is; only for blocks with `permute` there is anything to do.
        model: The network; stays as it was.
        example: An input, as for `trace`.
        also: Further inputs.

    Returns:
        Tensor name -> dimension -> the position that each position's values come from, int64.

    Raises:
        UntraceableError: The model fails on an input.
        EquivalenceError: No order was right, although each channel group's alone was.
    """
    if not isinstance(granularity, Unstructured) or not granularity.permute:
        return {}
    space = trace(model, example, also=also, exact=False, inside_heads=True)
    height = int(granularity.unit.removesuffix("x1"))
    values = {name: p.detach().abs().float().cpu() for name, p in model.named_parameters()}
    orders = {group.name: block_order(_rows(group, values), height) for group in space.groups}
    reference = Reference(model, {}, example, also=also)

    def wrong(orders: Mapping[str, Tensor]) -> bool:
        index = _moved(space, orders)
        network = copy_sliced(model, index)
        found = [reference.compare(network), reference.compare_redrawn(network, index)]
        try:
            for given in (example, *also):
                check_training(reference, network, index, given)
        except EquivalenceError:
            return True
        finally:
            reference.release()
        return not all(one.passed for one in found if one is not None)

    if wrong(orders):
        orders = {name: order for name, order in orders.items() if not wrong({name: order})}
        if wrong(orders):
            raise EquivalenceError(
                "no order of channels leaves the network's function as it is; take permute=False."
            )
    return _moved(space, orders)


def block_order(rows: Tensor, height: int) -> Tensor:
    """Return an order in which blocks of adjacent rows hold as much as possible in few columns.

    A block keeps what the sum of its magnitudes in a column is above that of as many small weights.
    The first row of each block is the largest that is left; each next is the one with which the
    block keeps most.

    Args:
        rows: Magnitudes, shape (rows, columns).
        height: Rows in a block; where rows are no multiple of it, its largest divisor with 2.

    Returns:
        int64, shape (rows,).
    """
    height = gcd(height, len(rows))
    if height == 1:
        return torch.arange(len(rows))
    small = rows.flatten().kthvalue(max(1, int(_SMALL * rows.numel()))).values
    alone = (rows - small).relu_().sum(dim=1)
    left, order = torch.ones(len(rows), dtype=torch.bool), list[int]()
    while left.any():
        keeps, block = alone, torch.zeros_like(rows[0])
        for _ in range(height):
            chosen = int(torch.where(left, keeps, -1.0).argmax())
            left[chosen] = False
            order.append(chosen)
            block += rows[chosen] - small
            keeps = (rows + (block - small)).relu_().sum(dim=1)
    return torch.tensor(order)


def _rows(group: ChannelGroup, values: Mapping[str, Tensor]) -> Tensor:
    """Return magnitudes that make each unit, shape (units, columns); of very many, some."""
    made = [values[m.tensor].movedim(m.dim, 0)[m.index].flatten(1) for m in group.producers]
    rows = torch.cat(made, dim=1)
    return rows[:, :: -(-rows.shape[1] // _COLUMNS)].contiguous()


def _moved(space: Space, orders: Mapping[str, Tensor]) -> dict[str, dict[int, Tensor]]:
    """Return where the values of every position come from when groups take these orders."""
    index: dict[str, dict[int, Tensor]] = {}
    for group in space.groups:
        if group.name not in orders:
            continue
        for member in group.members:
            dims = index.setdefault(member.tensor, {})
            here = dims.setdefault(
                member.dim, torch.arange(space.shapes[member.tensor][member.dim])
            )
            here[member.index.ravel()] = member.index[orders[group.name]].ravel()
    return index


def by_place(order: Mapping[str, Mapping[int, Tensor]]) -> dict[str, Tensor]:
    """Return an order flat, as a checkpoint holds it: "<tensor>.<dimension>" -> positions."""
    return {f"{name}.{dim}": places for name, dims in order.items() for dim, places in dims.items()}
