"""Recurrent layers and cells, each taken as one operation.

The units of all layers and directions of one module are tied by index, because the module has one
`hidden_size`. A hidden unit owns its row in every gate, its recurrent column, and what reads it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.space.labels import Label
from prunus.space.tracer import Call, FunctionRule, Tracer

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def layers(kind: str) -> FunctionRule:
    """Return the rule of a recurrent layer, such as `torch.lstm`, plain or packed."""

    def rule(tracer: Tracer, out: Any, *args: Any) -> None:
        packed = isinstance(args[1], Tensor) and not args[1].is_floating_point()
        data, hidden, weights = (args[0], *args[2:4]) if packed else args[:3]
        biased, depth, _, _, both = args[4:9] if packed else args[3:8]
        sweeps = depth * (2 if both else 1)
        per = len(weights) // sweeps
        rows = [weights[k * per : (k + 1) * per] for k in range(sweeps)]
        cells, seen = _units(tracer, kind, rows[0], biased)
        feature = tracer.of(data)[-1]
        for k, own in enumerate(rows):
            if k and k % (2 if both else 1) == 0:  # the layer above reads all directions
                feature = seen if isinstance(seen, str) else np.tile(seen, 2 if both else 1)
            _step(tracer, kind, own, biased, feature, (cells, seen), data.numel() // data.shape[-1])
        states = hidden if isinstance(hidden, tuple | list) else (hidden,)
        for state, label in zip(states, (seen, cells), strict=False):
            tracer.labels.join(tracer.of(state)[-1], label)
        first, *lasts = out
        wide = seen if isinstance(seen, str) else np.tile(seen, 2 if both else 1)
        tracer.assign(first, [*tracer.of(data)[:-1], wide])
        for last, label in zip(lasts, (seen, cells), strict=False):
            tracer.assign(last, ["has a fixed size"] * (last.ndim - 1) + [label])
        if _stay_at_zero(tracer, states, weights):
            for tensor in out:
                tracer.set_zero(tensor, [tensor.ndim - 1])

    return rule


def cell(kind: str) -> FunctionRule:
    """Return the rule of one step, such as `torch.lstm_cell`."""

    def rule(tracer: Tracer, out: Any, data: Tensor, hidden: Any, *weights: Tensor | None) -> None:
        own = [weight for weight in weights if weight is not None]
        cells, seen = _units(tracer, kind, own, len(own) > 2)
        feature = tracer.of(data)[-1]
        _step(
            tracer, kind, own, len(own) > 2, feature, (cells, seen), data.numel() // data.shape[-1]
        )
        states = hidden if isinstance(hidden, tuple | list) else (hidden,)
        for state in states:
            tracer.labels.join(tracer.of(state)[-1], cells)
        stays = _stay_at_zero(tracer, states, own)
        for new in out if isinstance(out, tuple | list) else (out,):
            tracer.assign(new, [*tracer.of(data)[:-1], cells])
            tracer.set_zero(new, [new.ndim - 1] if stays else [])

    return rule


def _stay_at_zero(tracer: Tracer, states: Sequence[Tensor], weights: Sequence[Tensor]) -> bool:
    """Say whether removed units begin at zero and have zeros for weights, so that they stay."""
    begin = all(tracer.is_zero(state, -1) for state in states)
    return begin and all(tracer.is_zero(weight, 0) for weight in weights)


def _units(tracer: Tracer, kind: str, own: Sequence[Tensor], biased: bool) -> tuple[Label, Label]:
    """Return the labels of the cells and of what the outside sees of them."""
    gates = tracer.of(own[0])[0]
    cells: Label = gates if isinstance(gates, str) else gates.reshape(GATES[kind], -1)[0]
    projected = len(own) == (5 if biased else 3)
    return cells, tracer.of(own[-1])[0] if projected else cells


def _step(
    tracer: Tracer,
    kind: str,
    own: Sequence[Tensor],
    biased: bool,
    feature: Label,
    units: tuple[Label, Label],
    positions: int,
) -> None:
    """One layer in one direction: input and recurrent weights, biases, projection."""
    cells, seen = units
    read, recurrent = tracer.of(own[0]), tracer.of(own[1])
    for tensor in own[: 4 if biased else 2]:
        gates = tracer.of(tensor)[0]
        table = gates if isinstance(gates, str) else gates.reshape(GATES[kind], -1)
        tracer.labels.join(table, cells)
    tracer.labels.join(read[1], feature)
    tracer.labels.join(recurrent[1], seen)
    weights = [own[0], own[1]]
    if len(own) == (5 if biased else 3):
        projection = tracer.of(own[-1])
        tracer.labels.join(projection[0], seen)
        tracer.labels.join(projection[1], cells)
        weights.append(own[-1])
    for weight in weights:
        tracer.read(weight, 1)
        tracer.produce(weight, 0, positions)
        origin = tracer.origin(weight)
        name = origin[0][0] if origin and origin[0] else "recurrence"
        tracer.spend(name, positions, list(zip(tracer.of(weight), weight.shape, strict=True)))


def pack(tracer: Tracer, call: Call) -> None:
    """pack_padded_sequence and back: time and batch become one or two, features stay."""
    source = call.tensors[0]
    feature = tracer.of(source)[-1]
    for leaf in tree_leaves(call.out):
        if isinstance(leaf, Tensor):
            fixed: list[Label] = ["is a position in a packed sequence"] * leaf.ndim
            if leaf.ndim and leaf.is_floating_point():
                fixed[-1] = feature
            tracer.assign(leaf, fixed)


FUNCTIONS: dict[str, Callable[..., None]] = {
    **{kind: layers(kind) for kind in GATES},
    **{f"{kind}_cell": cell(kind) for kind in GATES},
}
