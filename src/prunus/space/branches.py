"""Residual branches: what a sum adds to its input, and can do without.

In `y = x + f(x)` the branch is `f`. Where the last layer of a branch has zeros for weights it adds
nothing, so that `y = x` computes the same without any of the branch's layers. A first block of a
stage, `y = g(x) + f(x)` with a projection `g`, loses the side with more layers.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from prunus.errors import EquivalenceError
from prunus.space import zeros
from prunus.space.recording import Recording, Seen

_BRANCH = ":branch"

_SUMS = ("add", "add_", "__add__", "__iadd__", "__radd__", "iadd")

_PRODUCTS = ("mul", "mul_", "__mul__", "__imul__", "__rmul__", "imul")

_LAYERS = (nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Layers that give zeros where their own parameters are zero."""

_LAST = {"linear": (1, 2), "addmm": (2, 0), "conv1d": (1, 2), "conv2d": (1, 2), "conv3d": (1, 2)}
"""The same as functions, and where their parameters stand."""


@dataclass(frozen=True)
class Branch:
    """A residual branch; it goes as a whole.

    Attributes:
        name: The layer, or the parameter, that it ends with, and ":branch".
        ends: Parameters that make it add nothing where they are zero.
        tensors: All parameters and buffers that only this branch reads.
        products: Which of the tracer's products it spends.
        positions: Entries of what it adds.
    """

    name: str
    ends: tuple[str, ...]
    tensors: tuple[str, ...]
    products: frozenset[int]
    positions: int

    @property
    def size(self) -> int:
        """One: it is there or not."""
        return 1


def _holds_anything(module: nn.Module) -> bool:
    held = (*module._modules.values(), *module._parameters.values(), *module._buffers.values())
    return any(part is not None for part in held)


@dataclass(frozen=True)
class _Cut:
    """Where a branch is in a graph.

    Attributes:
        branch: Which.
        sum: The call that adds it.
        calls: What is called for the branch alone.
        written: Whether any later call writes into its input, which may be the sum or what stays.
    """

    branch: Branch
    sum: fx.Node
    calls: frozenset[fx.Node]
    written: bool


def find(recording: Recording, model: nn.Module) -> tuple[Branch, ...]:
    """Return the residual branches of a recorded model, in order."""
    return () if recording.failure else tuple(cut.branch for cut in _cuts(recording, model))


def without(recording: Recording, model: nn.Module, names: Sequence[str]) -> set[str]:
    """Take branches out of a recording's graph and return the tensors that nothing reads then.

    Raises:
        EquivalenceError: A branch is not in this graph.
    """
    if not names:
        return set()
    graph = recording.graph
    before = _Reads(model, graph)
    cuts = {cut.branch.name: cut for cut in _cuts(recording, model)}
    for name in names:
        if name not in cuts:
            raise EquivalenceError(f"its graph of some mode has no branch {name!r}")
    gone: set[fx.Node] = set()
    for cut in sorted((cuts[name] for name in names), key=lambda cut: -len(cut.calls)):
        if cut.sum in gone:  # it lies inside another
            continue
        stays = next(x for x in cut.sum.all_input_nodes if x not in cut.calls)
        if cut.written:  # what stays may be needed elsewhere as it is
            seen = recording.seen[stays.name]
            with graph.inserting_after(cut.sum):
                stays = graph.call_method("clone", (stays,))
            recording.seen[stays.name] = seen
        cut.sum.replace_all_uses_with(stays)
        read = {x for node in cut.calls for x in node.all_input_nodes} - cut.calls
        for node in (cut.sum, *reversed([node for node in graph.nodes if node in cut.calls])):
            graph.erase_node(node)
        gone |= {cut.sum, *cut.calls}
        _sweep(graph, read - gone, before)
    return set(before.names) - set(_Reads(model, graph).names)


def _sweep(graph: fx.Graph, nodes: set[fx.Node], reads: "_Reads") -> None:
    """Erase calls that nothing uses any more, and what they alone have read."""
    while nodes:
        node = nodes.pop()
        if node.users or node.op in ("placeholder", "output") or reads.written_by(node):
            continue
        nodes |= set(node.all_input_nodes)
        graph.erase_node(node)
        nodes.discard(node)


def drop(small: nn.Module, tensors: Collection[str]) -> None:
    """Delete parameters and buffers from a network, and modules that have nothing left."""
    named = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    dropped = {id(named[name]) for name in tensors}
    for path, module in list(small.named_modules()):
        for held in (module._parameters, module._buffers):
            for leaf in [leaf for leaf, x in held.items() if id(x) in dropped]:
                del held[leaf]
                _drop_empty(small, path)


def _drop_empty(small: nn.Module, path: str) -> None:
    while path and not _holds_anything(small.get_submodule(path)):
        path, _, leaf = path.rpartition(".")
        del small.get_submodule(path)._modules[leaf]


def _cuts(recording: Recording, model: nn.Module) -> Iterator[_Cut]:
    graph = recording.graph
    above = _Above(graph)
    reads = _Reads(model, graph)
    taken: set[str] = set()
    last_write = max((above.order[n] for n in above.order if reads.written_by(n)), default=-1)
    for node in graph.nodes:
        if _name(node) not in _SUMS or node.kwargs or len(node.args) != 2:
            continue
        shape = _shape(recording, node)
        for branch, stays in _sides(node, above):
            ends = _ends(branch, reads)
            if not ends or _shape(recording, stays) != shape:
                continue
            calls = _only_for(node, branch, above.order, reads)
            if branch not in calls or stays in calls or reads.elsewhere(ends, calls):
                continue
            own = tuple(name for name in reads.of(calls) if not reads.elsewhere([name], calls))
            name = (ends[0].rpartition(".")[0] or ends[0]) + _BRANCH
            if name in taken:
                continue
            taken.add(name)
            spent = {k for call in calls for k in range(*call.meta.get("products", (0, 0)))}
            size = 1
            for n in shape or ():
                size *= n
            found = Branch(name, ends, own, frozenset(spent), size)
            yield _Cut(found, node, calls, above.order[node] < last_write)
            break


def _sides(node: fx.Node, above: "_Above") -> list[tuple[fx.Node, fx.Node]]:
    """Return which operand of a sum may be a branch and what then stays, the likelier first."""
    first, second = node.args
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or first is second:
        return []
    sides = [(first, second), (second, first)]
    found = [(x, stays) for x, stays in sides if above.of(stays, *_terms(stays)) & above(x)]
    if not found:  # a projection beside the branch: both read the same
        branch, shortcut = max(sides, key=lambda side: above(side[0]).bit_count())
        common = above(branch) & above(shortcut)
        own, waiting = {shortcut}, [shortcut]
        layers: set[fx.Node] = set()
        while waiting and len(layers) < 3:
            node = waiting.pop()
            if node.op == "call_module" or _name(node) in _LAST:
                layers.add(node)
            inside = [x for x in node.all_input_nodes if above.of(x) & above(shortcut) & ~common]
            waiting += [x for x in inside if x not in own]
            own |= {*inside}
        if common and 1 <= len(layers) <= 2:
            found.append((branch, shortcut))
    return found


def _terms(node: fx.Node) -> list[fx.Node]:
    """Return what a sum of sums adds up."""
    terms: list[fx.Node] = []
    while _name(node) in _SUMS and len(terms) < 8:
        terms += [x for x in node.args if isinstance(x, fx.Node)]
        first = _first(node)
        if first is None:
            break
        node = first
    return terms


class _Above:
    """Which nodes each is computed from, as a bit set; parameters and numbers are none of them."""

    def __init__(self, graph: fx.Graph) -> None:
        self.order = {node: k for k, node in enumerate(graph.nodes)}
        self._above: dict[fx.Node, int] = {}
        for node in self.order:
            found = 0
            for x in node.all_input_nodes:
                if x.op != "get_attr" and "size" not in x.meta:
                    found |= self._above[x] | self.of(x)
            self._above[node] = found

    def __call__(self, node: fx.Node) -> int:
        return self._above[node]

    def of(self, *nodes: fx.Node) -> int:
        """Return the nodes themselves as a bit set."""
        found = 0
        for node in nodes:
            found |= 1 << self.order[node]
        return found


class _Reads:
    """Which parameters and buffers each call of a graph reads."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self.model = model
        self._names = {
            id(x): name for name, x in (*model.named_buffers(), *model.named_parameters())
        }
        self._readers: dict[str, set[fx.Node]] = {}
        self._read: dict[fx.Node, list[str]] = {}
        for node in graph.nodes:
            self._read[node] = names = list(self._tensors(node))
            for name in names:
                self._readers.setdefault(name, set()).add(node)

    @property
    def names(self) -> list[str]:
        """All that is read."""
        return list(self._readers)

    def module(self, node: fx.Node) -> nn.Module:
        """Return the layer that a node calls."""
        return self.model.get_submodule(str(node.target))

    def name(self, tensor: Tensor | None) -> str | None:
        """Return the first name of a parameter or buffer."""
        return self._names.get(id(tensor))

    def of(self, nodes: Iterable[fx.Node]) -> list[str]:
        """Return all that some calls read."""
        return list(dict.fromkeys(name for node in nodes for name in self._read[node]))

    def written_by(self, node: fx.Node) -> bool:
        """Say whether a call writes into its first input."""
        if node.op == "call_module":
            return bool(getattr(self.module(node), "inplace", False))
        name = _name(node)
        if node.kwargs.get("inplace") or name in ("setitem", "iadd", "imul"):
            return True
        return name.endswith("_") and (not name.endswith("__") or name.startswith("__i"))

    def elsewhere(self, names: Sequence[str], nodes: frozenset[fx.Node]) -> bool:
        """Say whether any of the tensors is read by other calls than these."""
        return any(self._readers[name] - nodes for name in names)

    def _tensors(self, node: fx.Node) -> Iterator[str]:
        if node.op == "call_module":
            module = self.module(node)
            for tensor in (*module.parameters(), *module.buffers()):
                yield self._names[id(tensor)]
        elif node.op == "get_attr":
            owner, _, leaf = str(node.target).rpartition(".")
            holder = self.model.get_submodule(owner) if owner else self.model
            name = self.name(getattr(holder, leaf, None))
            if name is not None:
                yield name


def _ends(node: Any, reads: _Reads) -> tuple[str, ...]:
    """Return the parameters that make a node's output zero where they are zero; none if unknown."""
    if not isinstance(node, fx.Node):
        return ()
    name, operands = _name(node), [x for x in node.args if isinstance(x, fx.Node)]
    if node.op == "call_module":
        module = reads.module(node)
        if isinstance(module, _LAYERS):
            plain = module._parameters.get("weight") is not None  # not computed from others
            return tuple(reads.of([node])[: len(list(module.parameters()))]) if plain else ()
        return _ends(_first(node), reads) if isinstance(module, zeros.LAYERS) else ()
    if name in _LAST:
        arguments = [node.args[k] for k in _LAST[name] if k < len(node.args)]
        arguments += [node.kwargs[k] for k in ("weight", "bias") if k in node.kwargs]
        given = [x for x in arguments if x is not None]
        own = [x for argument in given for x in _parameter(argument, reads)]
        return tuple(own) if len(own) == len(given) else ()
    if name in _PRODUCTS:
        activations = [x for x in operands if x.op != "get_attr"]
        scales = [x for x in operands if x.op == "get_attr"]
        found = [_ends(x, reads) for x in activations] + [_parameter(x, reads) for x in scales]
        return next((ends for ends in found if ends), ())
    if name in _SUMS and len(operands) == 2 and len(node.args) == 2:
        both = [_ends(x, reads) for x in operands]
        return both[0] + both[1] if all(both) else ()
    return _ends(_first(node), reads) if _keeps_zeros(name) else ()


def _keeps_zeros(name: str) -> bool:
    """Say whether a function whose first input is zero gives zeros."""
    plain = name if name.startswith("__") else name.rstrip("_")
    tables = (zeros.VALUE_BY_VALUE, zeros.ALONG, zeros.REGROUPED, zeros.MOVED)
    return any(plain in table for table in tables)


def _parameter(node: Any, reads: _Reads) -> tuple[str, ...]:
    """Return the parameter that a node reads as it is."""
    return tuple(reads.of([node])) if isinstance(node, fx.Node) and node.op == "get_attr" else ()


def _only_for(
    total: fx.Node, branch: fx.Node, order: dict[fx.Node, int], reads: _Reads
) -> frozenset[fx.Node]:
    """Return the calls whose results nothing but `branch` uses, as long as only `total` uses it."""
    if set(branch.users) != {total}:
        return frozenset()
    own, waiting = {branch}, list(branch.all_input_nodes)
    while waiting:  # users come later than what they use, so they are decided first
        node = max(waiting, key=order.__getitem__)
        waiting = [x for x in waiting if x is not node]
        loose = [x for x in node.users if not x.users and _first(x) is node]
        writers = {x for x in loose if reads.written_by(x)}
        if node.op not in ("placeholder", "output") and node.users.keys() <= own | writers:
            own |= {node, *writers}
            for x in (node, *writers):
                waiting += [y for y in x.all_input_nodes if y not in own]
    if any(reads.written_by(node) and _first(node) not in own for node in own):
        return frozenset()  # it changes what others read
    return frozenset(own)


def _first(node: fx.Node) -> fx.Node | None:
    """Return the tensor that a call is given first, whether by position or by name."""
    given = (*node.args, *node.kwargs.values())
    return next((x for x in given if isinstance(x, fx.Node)), None)


def _name(node: fx.Node) -> str:
    if node.op not in ("call_function", "call_method"):
        return ""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _shape(recording: Recording, node: fx.Node) -> tuple[int, ...] | None:
    seen = recording.seen.get(node.name)
    return seen.shape if isinstance(seen, Seen) else None
