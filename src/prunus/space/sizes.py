"""What sizes in a recorded graph are without the removed positions, call by call."""

import hashlib
import operator
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from prunus.errors import EquivalenceError
from prunus.space.labels import Label
from prunus.space.recording import Recording, Seen


class After:
    """What tensors and numbers of a graph are without the removed positions.

    Args:
        recording: The graph and what was seen in the dense network.
        lost: For each atom whether it goes.
    """

    def __init__(self, recording: Recording, lost: NDArray[np.bool_]) -> None:
        self._recording, self._seen = recording, recording.seen
        self._lost = lost
        self._sizes: dict[fx.Node, int] = {}

    def seen(self, node: fx.Node) -> Any:
        """Return what was seen of a node's output in the dense network."""
        return self._seen.get(node.name)

    def stays(self, label: Label) -> Any:
        """Return which positions of a dimension stay; None where its size is fixed."""
        return None if isinstance(label, str) else ~self._lost[label]

    def dense(self, value: Any) -> Any:
        """Return the dense value of a number that may stand as a node."""
        return value.meta["size"] if isinstance(value, fx.Node) else value

    def evaluate(self, node: Any) -> None:
        """Note what a computed size will be."""
        if node.target == "size":
            source, dim = node.args
            seen = self.seen(source)
            stays = self.stays(seen.labels[dim])
            self._sizes[node] = seen.shape[dim] if stays is None else int(stays.sum())
        elif node.target == "numel":
            self._sizes[node] = prod(self.shape(self.seen(node.args[0])))
        else:
            numbers = [self._sizes.get(x, x) for x in node.args]
            self._sizes[node] = node.target(*numbers)

    def sizes(self, given: list[Any], seen: Seen) -> list[Any]:
        """Return the sizes of a tensor, given those of the dense one.

        A size computed from others stays computed where that comes out right, and is scaled where
        it does not, so that one that holds the batch too goes on to follow it.
        """
        sizes = []
        for size, label in zip(given, seen.labels, strict=True):
            stays = self.stays(label)
            if size == -1:
                sizes.append(size)
            elif stays is None:  # it may be computed from a size that has changed
                sizes.append(self._restored(size))
            else:
                sizes.append(self.brought_to(int(stays.sum()), size))
        return sizes

    def brought_to(self, wanted: int, size: Any) -> Any:
        """Return a number, or a node scaled so that it comes out as `wanted` for the example."""
        if not isinstance(size, fx.Node):
            return wanted
        if self._sizes.get(size, wanted) == wanted:
            return size
        return self._scaled(self._restored(size), wanted, size.meta["size"])

    def value(self, number: Any) -> Any:
        """Return what a number, which may stand as a node, is without the removed positions."""
        if not isinstance(number, fx.Node):
            return number
        if number in self._sizes:
            return self._sizes[number]
        return number.target(*map(self.value, number.args))  # type: ignore[operator]

    def shape(self, seen: Seen) -> tuple[int, ...]:
        """Return the shape of a tensor without the removed positions."""
        stays = map(self.stays, seen.labels)
        return tuple(
            n if left is None else int(left.sum())
            for left, n in zip(stays, seen.shape, strict=True)
        )

    def places(self, index: fx.Node, label: Label) -> Any:
        """Return an index into what stays of a dimension, a constant of the graph.

        Where nothing changes it is the node itself.
        """
        seen, stays = self.seen(index), self.stays(label)
        if not isinstance(seen, Seen) or seen.index is None or stays is None or stays.all():
            return index
        old = seen.index % len(stays)
        new = (np.cumsum(stays) - 1)[old[stays[old]]]
        name = f"_places_{hashlib.sha256(new.tobytes()).hexdigest()[:12]}"
        self._recording.constants[name] = torch.from_numpy(new).to(self._recording.device)
        with index.graph.inserting_after(index):
            return index.graph.create_node("get_attr", name)

    def number(self, value: Any) -> Any:
        """Return what a number that is no size, such as a scale, was in the dense network."""
        return self._restored(value) if isinstance(value, fx.Node) else value

    def keep_numbers(self, node: fx.Node) -> None:
        """Let all numbers of a call be what they were in the dense network."""
        node.args = fx.node.map_arg(node.args, self.number)
        node.kwargs = fx.node.map_arg(node.kwargs, self.number)

    def _restored(self, size: Any) -> Any:
        """Return a node that gives what `size` gave in the dense network."""
        if not isinstance(size, fx.Node) or size not in self._sizes:
            return size
        if size.op == "call_method":  # a size read from a tensor
            return self._scaled(size, size.meta["size"], self._sizes[size])
        numbers = tuple(self._restored(number) for number in size.args)
        if numbers == size.args:
            return size
        with size.graph.inserting_after(size):
            return size.graph.call_function(size.target, numbers)  # type: ignore[arg-type]

    @staticmethod
    def _scaled(size: Any, times: int, over: int) -> Any:
        if times == over:
            return size
        with size.graph.inserting_after(size):
            scaled = size.graph.call_function(operator.mul, (size, times))
        with size.graph.inserting_after(scaled):
            return size.graph.call_function(operator.floordiv, (scaled, over))


def _as_sequence(values: Any) -> tuple[list[Any], bool]:
    """Return sizes given one by one or as one tuple, and which it was."""
    if len(values) == 1 and isinstance(values[0], list | tuple):
        return list(values[0]), True
    return list(values), False


def _sizes(node: Any, after: After) -> None:
    """view, reshape, expand, new_zeros: sizes after the tensor."""
    first, *rest = node.args
    if not rest:  # given by name
        name = next(key for key in ("size", "shape") if key in node.kwargs)
        sizes = after.sizes(list(node.kwargs[name]), after.seen(node))
        node.kwargs = {**node.kwargs, name: tuple(sizes)}
        return
    fill = [] if node.target != "new_full" else [after.number(rest.pop())]
    given, together = _as_sequence(rest)
    if len(given) != len(after.seen(node).shape):
        return  # view(dtype)
    sizes = after.sizes(given, after.seen(node))
    node.args = (first, tuple(sizes), *fill) if together else (first, *sizes, *fill)


def _made(node: Any, after: After) -> None:
    """zeros, ones, empty, full: sizes come first."""
    if "size" in node.kwargs:
        sizes = after.sizes(list(node.kwargs["size"]), after.seen(node))
        node.kwargs = {**node.kwargs, "size": tuple(sizes)}
        return
    rest = list(node.args)
    filled = getattr(node.target, "__name__", "") == "full" and len(rest) > 1
    fill = [after.number(rest.pop())] if filled else []
    given, _ = _as_sequence(rest)
    node.args = (tuple(after.sizes(given, after.seen(node))), *fill)


def _unflattened(node: Any, after: After) -> None:
    """unflatten: as for view, in the dimensions that are made."""
    out = after.seen(node)
    source, dim, *rest = node.args
    sizes, _ = _as_sequence(rest or [node.kwargs["sizes"]])
    start = dim % (len(out.shape) - len(sizes) + 1)
    stop = start + len(sizes)
    part = Seen(out.labels[start:stop], out.shape[start:stop])
    node.args, node.kwargs = (source, dim, tuple(after.sizes(sizes, part))), {}


def _selected(node: Any, after: After) -> None:
    """index_select: places are those among the survivors."""
    names = ("input", "dim", "index")
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    labels = after.seen(given["input"]).labels
    dim = given["dim"] % len(labels)
    places = after.places(given["index"], labels[dim])
    if places is not given["index"]:
        node.op, node.target = "call_function", operator.getitem
        node.args, node.kwargs = (given["input"], (*[slice(None)] * dim, places)), {}


def _parts(node: Any, after: After) -> None:
    """split, chunk: the parts' sizes are given one by one."""
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    stays = [after.stays(part.labels[dim]) for part in after.seen(node)]
    if any(part is None for part in stays):
        return
    node.op, node.target = "call_function", torch.split
    node.args, node.kwargs = (node.args[0], [int(part.sum()) for part in stays], dim), {}


def _narrowed(node: Any, after: After) -> None:
    """narrow: start and length count the survivors."""
    names = ("input", "dim", "start", "length")
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    stays = after.stays(after.seen(given["input"]).labels[given["dim"]])
    if stays is not None:
        start, length = (after.dense(given[key]) for key in ("start", "length"))
        start = start % len(stays) if start < 0 else start
        inside = int(stays[start : start + length].sum())
        node.args = (given["input"], given["dim"], int(stays[:start].sum()), inside)
        node.kwargs = {}


def subscripts(index: Any, dims: int) -> list[Any]:
    """Return what stands between the brackets, one by one, with slices for an ellipsis."""
    items = list(index) if isinstance(index, tuple) else [index]
    if any(item is Ellipsis for item in items):
        at = next(k for k, item in enumerate(items) if item is Ellipsis)
        missing = dims - sum(item is not None for item in items) + 1
        items[at : at + 1] = [slice(None)] * missing
    return items


def _bounds(node: Any, after: After) -> None:
    """Slices: bounds count the survivors before them."""
    source, index, *value = node.args
    tensor = after.seen(source)
    if not isinstance(tensor, Seen):
        return
    items = subscripts(index, len(tensor.labels))
    dim = 0
    for k, item in enumerate(items):
        if item is None:
            continue
        if isinstance(item, fx.Node) and dim < len(tensor.labels):
            items[k] = after.places(item, tensor.labels[dim])
        if isinstance(item, slice) and dim < len(tensor.labels):
            stays = after.stays(tensor.labels[dim])
            if stays is not None and not stays.all() and (item.start, item.stop) != (None, None):
                bounds = slice(*(after.dense(x) for x in (item.start, item.stop, item.step)))
                start, stop, step = bounds.indices(len(stays))
                stop = int(stays[:stop].sum())
                if step == 1:
                    items[k] = slice(int(stays[:start].sum()), stop)
                else:  # runs of `step` positions go as a whole, and it begins inside the first
                    items[k] = slice(start, stop, step)
        dim += 1
    node.args = (source, tuple(items), *value)


def _padded(node: Any, after: After) -> None:
    """pad: of what is added at either side of a dimension, some may be gone."""
    out = after.seen(node)
    names = ("input", "pad", "mode", "value")
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    widths = [after.dense(width) for width in given["pad"]]
    if given.get("mode", "constant") != "constant" or min(widths) < 0:
        return
    pad = list(given["pad"])
    for back in range(len(widths) // 2):
        stays = after.stays(out.labels[len(out.shape) - 1 - back])
        front, rear = widths[2 * back : 2 * back + 2]
        if stays is not None and front + rear:
            pad[2 * back] = int(stays[:front].sum())
            pad[2 * back + 1] = int(stays[len(stays) - rear :].sum())
    given["pad"] = tuple(pad)
    node.args, node.kwargs = (given.pop("input"),), given


def _grouped(node: Any, after: After) -> None:
    """Convolution as a function: as many groups as have a channel left."""
    at = 6
    groups = node.kwargs.get("groups", node.args[at] if len(node.args) > at else 1)
    stays = after.stays(after.seen(node.args[0]).labels[1])
    if stays is not None and after.dense(groups) > 1:
        left = int(stays.reshape(after.dense(groups), -1).any(axis=1).sum())
        node.args = tuple(left if k == at else given for k, given in enumerate(node.args))
        if "groups" in node.kwargs:
            node.kwargs = {**node.kwargs, "groups": left}


def _group_norm(node: Any, after: After) -> None:
    """group_norm: as many groups as have a channel left."""
    source = after.seen(node.args[0])
    stays = after.stays(source.labels[1])
    if stays is not None:
        left = stays.reshape(after.dense(node.args[1]), -1).any(axis=1)
        node.args = (node.args[0], int(left.sum()), *node.args[2:])


def _normalised(node: Any, after: After) -> None:
    """layer_norm, rms_norm: the sizes of the last dimensions."""
    shape = list(node.args[1] if len(node.args) > 1 else node.kwargs["normalized_shape"])
    out = after.seen(node)
    last = Seen(out.labels[-len(shape) :], out.shape[-len(shape) :])
    sizes = tuple(after.sizes(shape, last))
    if len(node.args) > 1:
        node.args = (node.args[0], sizes, *node.args[2:])
    else:
        node.kwargs = {**node.kwargs, "normalized_shape": sizes}


def _attended(node: Any, after: After) -> None:
    """Attention: the default scale is that of the dense width."""
    query = after.seen(node.args[0] if node.args else node.kwargs["query"])
    stays = after.stays(query.labels[-1])
    given = len(node.args) > 6 or node.kwargs.get("scale") is not None
    if stays is not None and not stays.all() and not given:
        node.kwargs = {**node.kwargs, "scale": query.shape[-1] ** -0.5}


def _rolled(node: Any, after: After) -> None:
    """roll: as many positions go around the end as stay of those that did."""
    names = ("input", "shifts", "dims")
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    dims = given.get("dims")
    if dims is None or dims == ():
        return
    shifts = given["shifts"]
    pairs = list(
        zip(*(x if isinstance(x, list | tuple) else [x] for x in (shifts, dims)), strict=True)
    )
    moved = []
    for shift, dim in pairs:
        stays = after.stays(after.seen(given["input"]).labels[dim])
        if stays is None or stays.all():
            moved.append(after.number(shift))
        else:
            around = after.dense(shift) % len(stays)
            moved.append(int(stays[len(stays) - around :].sum()))
    node.args, node.kwargs = (given["input"], tuple(moved), tuple(dim for _, dim in pairs)), {}


def _repeated(node: Any, after: After) -> None:
    """repeat_interleave: as often as what is made needs; its output's size need not be given."""
    names = ("input", "repeats", "dim")
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    source, out, dim = after.seen(given["input"]), after.seen(node), given.get("dim")
    if isinstance(dim, int) and isinstance(after.dense(given["repeats"]), int):
        before, made = after.stays(source.labels[dim]), after.stays(out.labels[dim])
        if made is not None:
            count = source.shape[dim] if before is None else int(before.sum())
            given["repeats"] = int(made.sum()) // count
    given.pop("output_size", None)
    node.args, node.kwargs = (given.pop("input"), given.pop("repeats")), given


REWRITES: dict[str, Callable[[fx.Node, After], None]] = {
    **dict.fromkeys(("view", "reshape", "expand", "broadcast_to"), _sizes),
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty", "new_full"), _sizes),
    **dict.fromkeys(("zeros", "ones", "empty", "full"), _made),
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split"), _parts),
    **dict.fromkeys(("getitem", "setitem"), _bounds),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _grouped),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _grouped),
    **dict.fromkeys(("layer_norm", "rms_norm"), _normalised),
    "repeat_interleave": _repeated,
    "scaled_dot_product_attention": _attended,
    "unflatten": _unflattened,
    "narrow": _narrowed,
    "index_select": _selected,
    "roll": _rolled,
    "pad": _padded,
    "group_norm": _group_norm,
}


def follow(node: Any, after: After) -> None:
    """Let the numbers that a call is given be what they are without the removed positions."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    rewriting = REWRITES.get(name.strip("_")) if node.op.startswith("call_") else None
    if "size" in node.meta:
        after.evaluate(node)
    elif rewriting is None or node.op == "call_module":
        after.keep_numbers(node)
    else:
        try:
            rewriting(node, after)
        except Exception as error:
            raise EquivalenceError(
                f"its call of {name}, the graph's {node.name!r}, cannot be rewritten for what "
                f"stays of its input ({type(error).__name__}: {error})."
            ) from error
