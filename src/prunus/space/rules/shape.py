"""Operations that move, cut, repeat or glue positions without changing values."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from prunus.space.labels import Atoms, Label
from prunus.space.tracer import Call, Tracer

CUT = "is a dimension cut out of another"
"""Label of the dimensions that a cut leaves at their size."""


def view(tracer: Tracer, call: Call) -> None:
    """Regroup dimensions whose sizes multiply to the same product."""
    source, out = call["self"], call.out
    before, after = list(source.shape), list(out.shape)
    labels = tracer.of(source)
    origin = tracer.origin(source)
    made: list[Label] = []
    traced: list[tuple[str, int] | None] = []
    for first, second in factor_groups(before, after):
        made += _regroup(
            tracer,
            [labels[k] for k in first],
            [before[k] for k in first],
            [after[k] for k in second],
        )
        same = [k for k in first if before[k] > 1]
        traced += [
            origin[same[0]] if origin and len(same) == 1 and after[k] == before[same[0]] else None
            for k in second
        ]
    tracer.assign(out, made)
    if origin is not None:
        tracer.set_origin(out, traced)


def factor_groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Cut two shapes of equal product into the smallest runs of equal products."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    if 0 in before:
        return [(list(range(len(before))), list(range(len(after))))]
    while i < len(before) or j < len(after):
        first, second = [], []
        left = right = 1
        if i < len(before):
            first, left, i = [i], before[i], i + 1
        if j < len(after):
            second, right, j = [j], after[j], j + 1
        while left != right:
            if left < right:
                first.append(i)
                left, i = left * before[i], i + 1
            else:
                second.append(j)
                right, j = right * after[j], j + 1
        groups.append((first, second))
    return groups


def _regroup(
    tracer: Tracer, labels: list[Label], sizes: list[int], after: list[int]
) -> list[Label]:
    """Return the labels of adjacent dimensions of `sizes` seen as dimensions of `after`."""
    if len(sizes) == len(after) == 1:
        return labels
    flat = _flattened(tracer, labels, sizes)
    if isinstance(flat, str):
        return [flat] * len(after)
    if not after:
        tracer.labels.freeze(flat, "has a single position")
        return []
    return _cut(tracer, flat, after)


def _flattened(tracer: Tracer, labels: list[Label], sizes: list[int]) -> Label:
    """One label for adjacent dimensions; what is fixed among them only repeats the others."""
    moving = [label for label in labels if not isinstance(label, str)]
    if not moving:
        return labels[0] if labels else "has a single position"
    inner = moving[0] if len(moving) == 1 else tracer.labels.flatten(moving)
    shape = [
        1 if isinstance(label, str) else size for label, size in zip(labels, sizes, strict=True)
    ]
    return np.broadcast_to(inner.reshape(shape), sizes).ravel()


def _cut(tracer: Tracer, flat: Atoms, after: list[int]) -> list[Label]:
    """One dimension seen as several."""
    long = [dim for dim, size in enumerate(after) if size > 1]
    made: list[Label] = ["has a single position"] * len(after)
    if len(long) < 2:
        made[long[0] if long else 0] = flat
        return made
    cells = flat.reshape([after[dim] for dim in long])
    roots = tracer.labels.find(cells)
    for dim in reversed(range(cells.ndim)):
        first = np.moveaxis(roots, dim, 0).reshape(cells.shape[dim], -1)
        if (first == first[:, :1]).all():  # it moves along this dimension alone
            sides: list[Label] = [CUT] * cells.ndim
            sides[dim] = np.moveaxis(cells, dim, 0).reshape(cells.shape[dim], -1)[:, 0].copy()
            break
    else:
        sides = list(tracer.labels.cut(cells))
    for dim, side in zip(long, sides, strict=True):
        made[dim] = side
    return made


def real_parts(tracer: Tracer, call: Call) -> None:
    """view_as_real: a last dimension of two, the real and the imaginary part."""
    labels, origin = tracer.of(call["self"]), tracer.origin(call["self"])
    tracer.assign(call.out, [*labels, "is a part of a complex number"])
    if origin is not None:
        tracer.set_origin(call.out, [*origin, None])


def complex_of(tracer: Tracer, call: Call) -> None:
    """view_as_complex: the reverse."""
    labels, last = tracer.of(call["self"]), call["self"].ndim - 1
    tracer.labels.freeze(labels[last], "is a part of a complex number")
    tracer.assign(call.out, labels[:last])
    _same_origin(tracer, call["self"], call.out, last)


def restride(tracer: Tracer, call: Call) -> None:
    """as_strided that only renames the strides of dimensions of size one, as global pools do."""
    labels, out = tracer.of(call["self"]), call.out
    expected = 1
    for size, stride in zip(reversed(out.shape), reversed(call["stride"]), strict=True):
        if size > 1 and stride != expected:
            raise NotImplementedError
        expected *= size
    if len(labels) != out.ndim or tuple(call["size"]) != tuple(out.shape):
        raise NotImplementedError
    tracer.assign(out, labels)


def permute(tracer: Tracer, call: Call) -> None:
    """Reorder dimensions."""
    ndim = call["self"].ndim
    permuted = call.name == "permute"
    order = [dim % ndim for dim in call["dims"]] if permuted else swapped(call, ndim)
    labels, origin = tracer.of(call["self"]), tracer.origin(call["self"])
    tracer.assign(call.out, [labels[dim] for dim in order])
    if origin is not None:
        tracer.set_origin(call.out, [origin[dim] for dim in order])


def swapped(call: Call, ndim: int) -> list[int]:
    """Return the order of dimensions that t or transpose makes."""
    order = list(range(ndim))
    if ndim > 1:
        two = call.name.startswith("transpose")
        a, b = (call["dim0"] % ndim, call["dim1"] % ndim) if two else (0, 1)
        order[a], order[b] = order[b], order[a]
    return order


def expand(tracer: Tracer, call: Call) -> None:
    """Repeat dimensions of size one; each repetition goes with what it meets."""
    source, out = call["self"], call.out
    labels, origin = tracer.of(source), tracer.origin(source)
    ahead = out.ndim - source.ndim
    made: list[Label] = []
    for dim, size in enumerate(out.shape):
        if dim >= ahead and source.shape[dim - ahead] == size:
            made.append(labels[dim - ahead])
            continue
        if dim >= ahead:
            tracer.labels.freeze(labels[dim - ahead], "is broadcast over others")
        made.append(tracer.labels.repeated(size) if size > 1 else "has a single position")
    tracer.assign(out, made)
    if origin is not None:
        tracer.set_origin(out, [None] * ahead + list(origin))


def repeat(tracer: Tracer, call: Call) -> None:
    """Tile each dimension."""
    labels = tracer.of(call["self"])
    times = list(call["repeats"])
    ahead: list[Label] = ["has a fixed size"] * (len(times) - len(labels))
    tracer.assign(
        call.out,
        [
            label if isinstance(label, str) else np.tile(label, count)
            for label, count in zip([*ahead, *labels], times, strict=True)
        ],
    )


def cat(tracer: Tracer, call: Call) -> None:
    """Concatenate: positions follow each other along one dimension, meet along the others."""
    tensors = [tensor for tensor in call["tensors"] if tensor.ndim == call.out.ndim]
    dim = call["dim"] % call.out.ndim
    parts = [tracer.of(tensor) for tensor in tensors]
    made: list[Label] = []
    for k in range(call.out.ndim):
        column = [part[k] for part in parts]
        if k == dim:
            made.append(_joined(tracer, column, [tensor.shape[k] for tensor in tensors]))
            continue
        for other in column[1:]:
            tracer.labels.join(column[0], other)
        made.append(next((x for x in column if not isinstance(x, str)), column[0]))
    tracer.assign(call.out, made)
    first, *others = map(tracer.origin, tensors)
    if first is not None and None not in others:
        tracer.set_origin(call.out, [None if k == dim else x for k, x in enumerate(first)])


def _joined(tracer: Tracer, column: list[Label], sizes: list[int]) -> Label:
    """One label after another; a part of fixed size becomes atoms that may not go."""
    if all(isinstance(label, str) for label in column):
        return column[0]
    parts = []
    for label, size in zip(column, sizes, strict=True):
        if isinstance(label, str):
            reason, label = label, tracer.labels.new(size)
            tracer.labels.freeze(label, reason)
        parts.append(label)
    return np.concatenate(parts)


def stack(tracer: Tracer, call: Call) -> None:
    """Stack along a new dimension; the stacked tensors meet."""
    parts = [tracer.of(tensor) for tensor in call["tensors"]]
    made = list(parts[0])
    for other in parts[1:]:
        for a, b in zip(parts[0], other, strict=True):
            tracer.labels.join(a, b)
    dim = call["dim"] % call.out.ndim
    made.insert(dim, "has a fixed size")
    tracer.assign(call.out, made)
    first, *others = map(tracer.origin, call["tensors"])
    if first is not None and None not in others:
        tracer.set_origin(call.out, [*first[:dim], None, *first[dim:]])


def split(tracer: Tracer, call: Call) -> None:
    """Cut one dimension into consecutive parts."""
    labels = tracer.of(call["self"])
    dim = call["dim"] % call["self"].ndim
    start = 0
    for out in call.out:
        part = list(labels)
        label = labels[dim]
        if not isinstance(label, str):
            part[dim] = label[start : start + out.shape[dim]]
        start += out.shape[dim]
        tracer.assign(out, part)
        _same_origin(tracer, call["self"], out)


def unbind(tracer: Tracer, call: Call) -> None:
    """Take a dimension apart; its positions are named in the code, so they stay."""
    labels = tracer.of(call["self"])
    dim = call["dim"] % call["self"].ndim
    tracer.labels.freeze(labels[dim], "is taken apart by position")
    for out in call.out:
        tracer.assign(out, labels[:dim] + labels[dim + 1 :])
        _same_origin(tracer, call["self"], out, dim)


def select(tracer: Tracer, call: Call) -> None:
    """Take one position of a dimension; it is named in the code, so the dimension stays."""
    labels = tracer.of(call["self"])
    dim = call["dim"] % call["self"].ndim
    tracer.labels.freeze(labels[dim], "is read at a fixed position")
    tracer.assign(call.out, labels[:dim] + labels[dim + 1 :])
    _same_origin(tracer, call["self"], call.out, dim)


def _same_origin(tracer: Tracer, source: Tensor, out: Tensor, gone: int | None = None) -> None:
    """Let a part of a parameter be of that parameter still, but for a dimension that is gone."""
    origin = tracer.origin(source)
    if origin is not None:
        tracer.set_origin(out, [slot for dim, slot in enumerate(origin) if dim != gone])


def slice_(tracer: Tracer, call: Call) -> None:
    """Take a range of a dimension."""
    labels = tracer.of(call["self"])
    dim = call["dim"] % call["self"].ndim
    label = labels[dim]
    if not isinstance(label, str):
        labels[dim] = label[call["start"] : call["end"] : call["step"]]
        step = call["step"]
        if step != 1 and len(label) % step == 0 == (call["start"] or 0) // step:
            table = label.reshape(-1, step)  # runs that go as a whole leave the others in step
            tracer.labels.join(table, table[:, :1])
        elif step != 1:
            tracer.labels.freeze(label, "is read at every few positions")
    tracer.assign(call.out, labels)
    _same_origin(tracer, call["self"], call.out)


def pad(tracer: Tracer, call: Call) -> None:
    """Add constant positions at the ends of the last dimensions; they go with what they meet."""
    labels = tracer.of(call["self"])
    widths = call["pad"]
    for back in range(len(widths) // 2):
        before, after = widths[2 * back], widths[2 * back + 1]
        dim = len(labels) - 1 - back
        label = labels[dim]
        if isinstance(label, str) or before == after == 0:
            continue
        if min(before, after) < 0:
            tracer.labels.freeze(label, "is cropped")
            labels[dim] = "is cropped"
        else:
            new = tracer.labels.new
            labels[dim] = np.concatenate([new(before), label, new(after)])
    tracer.assign(call.out, labels)


def glu(tracer: Tracer, call: Call) -> None:
    """The first half of a dimension is gated by the second: halves go together."""
    labels = tracer.of(call["self"])
    dim = call["dim"] % call["self"].ndim
    label = labels[dim]
    if not isinstance(label, str):
        half = len(label) // 2
        tracer.labels.join(label[:half], label[half:])
        labels[dim] = label[:half]
    tracer.assign(call.out, labels)


def pixel_shuffle(tracer: Tracer, call: Call) -> None:
    """Each output channel is made of factor squared adjacent input channels: all go or none."""
    labels = tracer.of(call["self"])
    channels = labels[-3]
    if not isinstance(channels, str):
        table = channels.reshape(-1, call["upscale_factor"] ** 2)
        tracer.labels.join(table, table[:, :1])
        channels = table[:, 0].copy()
    tracer.assign(call.out, [*labels[:-3], channels, *_spatial(tracer, labels)])


def channel_shuffle(tracer: Tracer, call: Call) -> None:
    """Channel j of group i goes to place j * groups + i, so all groups lose the same channels."""
    labels, groups = tracer.of(call["self"]), call["groups"]
    channels = labels[1]
    if not isinstance(channels, str):
        table = channels.reshape(groups, -1)
        tracer.labels.join(table, table[:1])
        labels[1] = table.T.ravel()
    tracer.assign(call.out, labels)


def pixel_unshuffle(tracer: Tracer, call: Call) -> None:
    """Each input channel becomes factor squared adjacent output channels."""
    labels = tracer.of(call["self"])
    channels = labels[-3]
    if not isinstance(channels, str):
        channels = np.repeat(channels, call["downscale_factor"] ** 2)
    tracer.assign(call.out, [*labels[:-3], channels, *_spatial(tracer, labels)])


def _spatial(tracer: Tracer, labels: list[Label]) -> list[Label]:
    for label in labels[-2:]:
        tracer.labels.freeze(label, "is a spatial position")
    return ["is a spatial position"] * 2
