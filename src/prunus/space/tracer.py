"""Recording a forward pass as labels: which channels of which tensors are the same.

The model runs once on the example input, in eval mode and without gradients, under a
`TorchDispatchMode`. What is seen are concrete ATen operations, whatever Python wrote them, so data
dependent control flow and functional calls need nothing special. Each operation has a rule (see
`rules/`) that says how the labels of its inputs become the labels of its output.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from prunus.space.attributes import bare_norms, sized_dims, sizes
from prunus.space.labels import Atoms, Label, Labels
from prunus.space.running import held_tensors, refuse_shared_memory, tensors_in


@dataclass(frozen=True)
class Product:
    """The multiply-accumulates of one operation: `factor` times the sizes of `dims`."""

    name: str
    factor: int
    dims: tuple[Label, ...]


@dataclass(frozen=True)
class Slot:
    """One dimension of one parameter or buffer, with the atoms of its positions."""

    tensor: str
    dim: int
    label: Label


@dataclass
class Call:
    """One recorded operation with its arguments under their schema names."""

    name: str
    arguments: dict[str, Any]
    out: Any
    mutates: bool

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All tensor inputs, in order."""
        return tensors_in(list(self.arguments.values()))


Rule = Callable[["Tracer", Call], None]
FunctionRule = Callable[..., None]
"""Called with the tracer, the output and the arguments of a `torch` function taken as a whole."""


@dataclass
class Tracer:
    """What is known while the model runs.

    Attributes:
        labels: The identities themselves.
        slots: Every dimension of every parameter and buffer.
        sizes: Norm without tensors -> what its sizes count.
        producers: Slots that make channels (outputs of a product with a parameter) with the number
            of positions (pixels, tokens, times the batch) at which they do.
        made: The same of what is computed from parameters whose dimensions were merged or glued.
        products: Where multiply-accumulates are spent.
        lookups: Parameters whose rows are looked up, with how many are.
        unknown: Operations without a rule, by name, with how often they were met.
        parameters: Names of the model's parameters; only they are pruned, never buffers.
        exact: Whether what is averaged over stays; otherwise averages are taken over what remains.
        whole_groups: Whether a convolution's groups go as a whole, rather than get narrower alike.
        averages: Every averaging operation in order: its name and what may go of its dimensions.
        scales: Weights of batch norms, which scale one channel each.
        reads: Slots that channels are multiplied by and summed over: the columns of a layer.
        ends: Labels that are summed over in other ways.
        grouped: Labels of which whole groups of a convolution are made.
        unmasked: Slots whose removed positions must not be zero in the masked network, because it
            divides by them.
        silent: Whether operations are run without being looked at: a rule for the whole of them
            (an attention, a recurrent layer) follows.
    """

    labels: Labels = field(default_factory=Labels)
    slots: dict[tuple[str, int], Slot] = field(default_factory=dict)
    sizes: dict[str, list[Label]] = field(default_factory=dict)
    producers: dict[tuple[str, int], int] = field(default_factory=dict)
    made: list[tuple[Atoms, int]] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    lookups: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    parameters: set[str] = field(default_factory=set)
    exact: bool = True
    whole_groups: bool = False
    averages: list[tuple[str, dict[int, Label]]] = field(default_factory=list)
    scales: set[str] = field(default_factory=set)
    reads: set[tuple[str, int]] = field(default_factory=set)
    ends: list[Label] = field(default_factory=list)
    grouped: list[Label] = field(default_factory=list)
    unmasked: set[tuple[str, int]] = field(default_factory=set)
    silent: bool = False
    _memory: dict[int, str] = field(default_factory=dict)
    _used: set[int] = field(default_factory=set)
    _overwritten: set[int] = field(default_factory=set)
    _zero: Any = field(default_factory=WeakIdKeyDictionary)
    _of: Any = field(default_factory=WeakIdKeyDictionary)
    _origin: Any = field(default_factory=WeakIdKeyDictionary)

    def alike(self) -> "Tracer":
        """Return a tracer that follows in the same way and knows nothing yet."""
        labels = Labels(inside=self.labels.inside)
        return Tracer(labels, exact=self.exact, whole_groups=self.whole_groups)

    @property
    def adopted(self) -> bool:
        """Whether it knows the tensors of a model."""
        return bool(self.slots or self.sizes)

    def adopt(self, model: nn.Module) -> None:
        """Give every dimension of every parameter and buffer its atoms; tied tensors share.

        Raises:
            UntraceableError: Two parameters share memory.
        """
        named = [*model.named_parameters(), *model.named_buffers()]
        refuse_shared_memory(model.named_parameters())
        self._memory = {self._storage(p): name for name, p in model.named_parameters()}
        self.parameters = {name for name, _ in model.named_parameters()}
        for name, tensor in named:
            labels = self._fresh(tensor.shape)
            for dim, label in enumerate(labels):
                self.slots[name, dim] = Slot(name, dim, label)
            self.assign(tensor, labels)
            self._origin[tensor] = [(name, dim) for dim in range(tensor.ndim)]
            self.set_zero(tensor)
        for tensor in held_tensors(model):
            if tensor not in self._origin and not tensor.is_floating_point():
                self.set_origin(tensor, [None] * tensor.ndim)
        self.sizes = {name: self._fresh(sizes(norm)) for name, norm in bare_norms(model).items()}

    def _fresh(self, shape: Sequence[int]) -> list[Label]:
        return [self.labels.new(size) if size > 1 else "has a single position" for size in shape]

    def normalise(self, name: str, norm: nn.Module, read: Tensor) -> None:
        """Note what a norm without tensors reads: its sizes are of that."""
        labels = self.of(read)
        for own, dim in zip(self.sizes[name], sized_dims(norm, len(labels)), strict=True):
            if isinstance(own, str) or isinstance(labels[dim], str) or len(own) == len(labels[dim]):
                self.labels.join(own, labels[dim])

    def of(self, tensor: Tensor) -> list[Label]:
        """Return one label per dimension of `tensor`."""
        self._used.add(id(tensor))
        known = self._of.get(tensor)
        return list(known) if known is not None else ["meets a constant tensor"] * tensor.ndim

    def unused(self, model: nn.Module) -> list[str]:
        """Return the names of the parameters that no operation has met."""
        return [name for name, p in model.named_parameters() if id(p) not in self._used]

    def assign(self, tensor: Tensor, labels: Sequence[Label]) -> None:
        """Set the labels of an operation's output."""
        if [tensor.shape[k] if isinstance(x, str) else len(x) for k, x in enumerate(labels)] != [
            *tensor.shape
        ]:
            raise ValueError(f"labels do not fit a tensor of shape {tuple(tensor.shape)}")
        self._of[tensor] = list(labels)

    def alias(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the same memory, with all that is known of this one."""
        made = tensor.detach()
        for known in (self._of, self._origin, self._zero):
            if tensor in known:
                known[made] = known[tensor]
        return made

    def origin(self, tensor: Tensor) -> list[tuple[str, int] | None] | None:
        """Return which parameter dimension each dimension comes from; None for an activation."""
        found: list[tuple[str, int] | None] | None = self._origin.get(tensor)
        return found

    def constant_index(self, tensor: Tensor) -> Atoms | None:
        """Return the values of an index that the model holds and that reads no position twice."""
        whole = not tensor.is_floating_point() and not tensor.is_complex()
        if tensor.ndim != 1 or not whole or tensor.dtype == torch.bool or tensor.is_meta:
            return None
        if self.origin(tensor) is None:
            return None
        with torch._C.DisableTorchFunction():  # the forward does not read it
            places = tensor.tolist()
        return np.array(places, dtype=np.int64) if len(set(places)) == len(places) else None

    def set_origin(self, tensor: Tensor, origin: Sequence[tuple[str, int] | None]) -> None:
        """Mark `tensor` as computed from parameters alone."""
        self._origin[tensor] = list(origin)

    def average(self, call: Call, dims: Sequence[int], reason: str) -> None:
        """Note an average over some dimensions of an operation's first tensor."""
        labels = self.of(call.tensors[0])
        if self.exact:
            for dim in dims:
                self.labels.freeze(labels[dim], reason)
        self.ends += [labels[dim] for dim in dims]
        self.averages.append((call.name, {dim: labels[dim] for dim in dims}))

    def read(self, weight: Tensor, dim: int) -> None:
        """Note that channels are multiplied by a dimension of a weight and summed over."""
        slot = (self.origin(weight) or [None] * weight.ndim)[dim]
        if slot is not None and slot[0] in self.parameters and self.owner(weight) == slot[0]:
            self.reads.add(slot)
        else:  # an activation, or a weight computed of parameters
            self.ends.append(self.of(weight)[dim])

    def zero(self, tensor: Tensor) -> frozenset[int]:
        """Return the dimensions along which removed positions are zero in the masked network."""
        if self._overwritten and self._storage(tensor) in self._overwritten:
            return frozenset()
        known: frozenset[int] = self._zero.get(tensor, frozenset())
        if known and self.unmasked:
            origin = self.origin(tensor) or ()
            known -= {dim for dim, slot in enumerate(origin) if slot in self.unmasked}
        return known

    def is_zero(self, tensor: Tensor, dim: int | None = None) -> bool:
        """Say whether removed positions are zero in the masked network, along one dimension or all.

        Along a dimension of fixed size nothing is removed.
        """
        zero = self.zero(tensor)
        dims = range(tensor.ndim) if dim is None else (dim % tensor.ndim,)
        labels = self.of(tensor)
        return all(k in zero or isinstance(labels[k], str) for k in dims)

    def set_zero(self, tensor: Tensor, dims: Iterable[int] | None = None) -> None:
        """Note along which dimensions (all by default) removed positions of a tensor are zero."""
        self._zero[tensor] = frozenset(range(tensor.ndim) if dims is None else dims)
        if self._overwritten and self._zero[tensor] and self._is_whole(tensor):
            self._overwritten.discard(self._storage(tensor))

    def overwrite(self, tensor: Tensor) -> None:
        """Note that something else than zeros was written into the memory of a tensor."""
        self._overwritten.add(self._storage(tensor))

    @staticmethod
    def _is_whole(tensor: Tensor) -> bool:
        """Say whether a tensor is all that its memory holds, rather than a view of a part."""
        try:
            return tensor.untyped_storage().nbytes() <= tensor.numel() * tensor.element_size()
        except NotImplementedError:  # sparse tensors have none
            return False

    @staticmethod
    def _storage(tensor: Tensor) -> int:
        try:
            return tensor.untyped_storage().data_ptr()
        except NotImplementedError:  # sparse tensors have none
            return 0

    def lost(self, index: Mapping[str, Mapping[int, Tensor]]) -> NDArray[np.bool_]:
        """Return of each atom whether it goes where tensors are reduced to `index`.

        Args:
            index: Tensor name -> dimension -> positions that stay.
        """
        gone = [self.labels.new(0)]
        for name, dims in index.items():
            for dim, positions in dims.items():
                label = self.slots[name, dim].label
                if not isinstance(label, str):
                    gone.append(np.delete(label, positions.numpy()))
        return self.labels.followers(np.concatenate(gone))

    def owner(self, tensor: Tensor) -> str | None:
        """Return the parameter whose memory `tensor` shares."""
        return self._memory.get(self._storage(tensor))

    def produce(self, operand: Tensor, dim: int, positions: int) -> None:
        """Note that a dimension of a product's operand makes channels at `positions` places.

        Only what is computed from parameters does.
        """
        origin = self.origin(operand)
        slot = origin[dim] if origin is not None else None
        if slot is not None and slot[0] in self.parameters:
            self.producers[slot] = max(positions, self.producers.get(slot, 0))
        elif origin is not None and slot is None:
            label = self.of(operand)[dim]
            if not isinstance(label, str):
                self.made.append((label, positions))

    def spend(self, name: str, factor: int, dims: Sequence[tuple[Label, int]]) -> None:
        """Note a product of `factor` times the sizes of `dims`, given as (label, size)."""
        for label, size in dims:
            factor *= size if isinstance(label, str) else 1
        moving = tuple(label for label, _ in dims if not isinstance(label, str))
        self.products.append(Product(name, factor, moving))

    def look_up(self, weight: Tensor, rows: int) -> None:
        """Note that `rows` rows of a weight are read by index."""
        slot = (self.origin(weight) or [None])[0]
        if slot is not None and slot[0] in self.parameters and self.owner(weight) == slot[0]:
            self.lookups[slot[0]] += rows

    def freeze_inputs(self, call: Call, reason: str) -> None:
        """Keep everything that an operation reads, and everything about what it returns."""
        for tensor in call.tensors:
            for label in self.of(tensor):
                self.labels.freeze(label, reason)
        for leaf in tree_leaves(call.out):
            if isinstance(leaf, Tensor):
                self.assign(leaf, [reason] * leaf.ndim)


@dataclass(frozen=True)
class Rules:
    """What is known of operations.

    Attributes:
        operations: ATen operation name, without overload and trailing underscore -> rule.
        functions: Name of a `torch` function that is taken as one operation -> rule.
        keeps_zero: Says along which dimensions of an operation's output removed positions are zero
            in the masked network.
    """

    operations: Mapping[str, Rule]
    functions: Mapping[str, FunctionRule]
    keeps_zero: Callable[["Tracer", Call], frozenset[int]]
