"""What every importance score is given and must return."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from prunus.criteria.calibration import Calibration, forward
from prunus.seeds import seeded
from prunus.space import UnitGroup
from prunus.space.running import preserved
from prunus.types import Example, Keep, Scores, call_arguments

T = TypeVar("T")


class Track(Protocol):
    """Shows how far a long piece of work is."""

    def __call__(self, items: Iterable[T], name: str, total: int | None = None) -> Iterable[T]:
        """Yield the items, which are `total` unless they know themselves; `name` says of what."""
        ...


def untracked(items: Iterable[T], name: str, total: int | None = None) -> Iterable[T]:
    """Yield the items and show nothing."""
    return items


class SeenAll(BaseException):
    """Ends a forward pass in which all has been seen that was looked for.

    No Exception, which the forward may catch, and after which torch calls forward hooks that want
    to be called always: they would see an output that is not there.
    """


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at; nothing of it is changed.

    Attributes:
        weights: Parameter name -> values, detached.
        generator: Source of every random choice.
        model: The network as it is now, masked where something is pruned already.
        example: An input of it.
        calibration: Samples, where the caller has given any.
        keep: The decision as it is; empty before there is one.
        progress: How much of the schedule is over, in [0, 1].
        gradients_now: Parameter name -> the gradient of the last step, where training has left one.
            Zero for masked weights, unless the criterion has a true attribute `dense_gradients`.
        learned: Group name -> one float per unit, where the masking has learned them.
        anchor: What an `Anchored` criterion measured before the first decision.
        gathered: Parameter name -> what training has summed up since the last decision, over steps
            and participants, where the criterion has an attribute `gathers` that says what.
        track: Shows how far work is that takes long.
    """

    weights: Mapping[str, Tensor]
    generator: torch.Generator
    model: nn.Module = field(default_factory=nn.Module)
    example: Example = ()
    calibration: Calibration | None = None
    keep: Keep = field(default_factory=dict)
    progress: float = 0.0
    gradients_now: Mapping[str, Tensor] = field(default_factory=dict)
    learned: Scores = field(default_factory=dict)
    anchor: Mapping[str, Tensor] = field(default_factory=dict)
    gathered: Mapping[str, Tensor] = field(default_factory=dict)
    track: Track = untracked

    def losses(
        self, *, training: bool = False, single: bool = False
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield the loss of each batch, with its graph, and the parameters it depends on.

        Args:
            training: Run in train mode, so that batch norms take the statistics of the batch.
            single: Yield the loss of each sample instead.

        Raises:
            ValueError: There is no calibration, or it has no targets; or the network or the loss
                fails on it.
        """
        named: dict[str, Tensor] = {
            name: p for name, p in self.model.named_parameters() if p.is_floating_point()
        }
        seeds = self._seeds()
        for inputs, targets in self.batches():
            if targets is None:
                raise ValueError(
                    "this criterion looks at a loss, so the calibration must yield pairs "
                    "(inputs, targets)."
                )
            parts = [(inputs, targets)]
            if single:
                parts = [(_row(inputs, k), _row(targets, k)) for k in range(_samples(targets))]
            for given, wanted in parts:
                with (
                    preserved(self.model, training=training, seed=next(seeds)),
                    torch.enable_grad(),
                    ExitStack() as frozen,
                ):
                    for parameter in named.values():
                        if not parameter.requires_grad:  # frozen ones are scored as well
                            frozen.callback(parameter.requires_grad_, False)
                            parameter.requires_grad_()
                    assert self.calibration is not None
                    yield self.calibration.loss_of(forward(self.model, given), wanted), named

    def gradients(
        self, *, training: bool = False, single: bool = False
    ) -> Iterator[dict[str, Tensor]]:
        """Yield each batch's gradient of the loss, for every parameter; see `losses`."""
        for loss, named in self.losses(training=training, single=single):
            yield gradient(loss, named)

    def inputs(self, layers: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
        """Yield for each batch what the named layers read, in eval mode.

        The network is run no further than to their last call, as the example has it.

        Yields:
            Layer -> its first input in every call, those of layers with the same weight among them;
            layers that a batch does not reach are left out.

        Raises:
            ValueError: There is no calibration, or the network fails on it.
        """
        readers = self._sharing(layers)
        calls = self._calls(readers)
        seeds = self._seeds()
        for inputs, _ in self.batches():
            found: dict[str, list[Tensor]] = {}
            left = Counter(calls)

            def note(
                module: nn.Module,
                given: tuple[Any, ...],
                found: dict[str, list[Tensor]] = found,
                left: Counter[nn.Module] = left,
            ) -> None:
                if given and isinstance(given[0], Tensor):
                    for name in readers[module]:
                        found.setdefault(name, []).append(given[0].detach())
                left[module] -= 1
                if len(calls) == len(readers) and not +left:
                    raise SeenAll

            hooked = _before_each(readers, note)
            with preserved(self.model, seed=next(seeds)), hooked, suppress(SeenAll):
                forward(self.model, inputs)
            yield found

    def _sharing(self, layers: Sequence[str]) -> dict[nn.Module, list[str]]:
        """Return the modules with the weight of a named layer, and the names of those."""
        found: dict[nn.Module, list[str]] = {}
        for name in dict.fromkeys(layers):
            layer = self.model.get_submodule(name)
            weight = layer._parameters.get("weight")
            for module in self.model.modules():
                tied = type(module) is type(layer) and module._parameters.get("weight") is weight
                if module is layer or (tied and weight is not None):
                    found.setdefault(module, []).append(name)
        return found

    def _calls(self, modules: Iterable[nn.Module]) -> Counter[nn.Module]:
        """Count how often modules are called for the example."""
        found: Counter[nn.Module] = Counter()
        args, kwargs = call_arguments(self.example)
        with preserved(self.model), _before_each(modules, lambda module, _: found.update([module])):
            self.model(*args, **kwargs)
        return found

    def shapes(self) -> dict[str, torch.Size]:
        """Return the shapes that modules put out for the example.

        Returns:
            Of each module that is called with a tensor first and returns one: name -> shape.
        """
        found: dict[nn.Module, torch.Size] = {}

        def note(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            if given and isinstance(given[0], Tensor) and isinstance(out, Tensor):
                found.setdefault(module, out.shape)

        args, kwargs = call_arguments(self.example)
        with preserved(self.model), ExitStack() as hooks:
            for module in self.model.modules():
                hooks.callback(module.register_forward_hook(note).remove)
            self.model(*args, **kwargs)
        named = self.model.named_modules(remove_duplicate=False)
        return {name: found[module] for name, module in named if module in found}

    def batches(self) -> Iterator[tuple[Example, Any]]:
        """Yield inputs and targets (None where there are none), on the model's device.

        Raises:
            ValueError: There is no calibration, or it is empty.
        """
        if self.calibration is None:
            raise ValueError(
                "this method looks at data; pass calibration=prunus.Calibration(batches), with "
                "batches such as a DataLoader's (on the command line, --data NAME)."
            )
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        seeds, found, seen = self._seeds(), iter(self.calibration), False
        for _ in self.track(count(), "batches of the calibration", self.calibration.most):
            with seeded(next(seeds)):  # a loader may shuffle
                batch = next(found, None)
            if batch is None:
                break
            seen = True
            yield tree_map_only(Tensor, lambda x: x.to(device), batch)
        if not seen:
            raise ValueError("the calibration has no batches.")

    def _seeds(self) -> Iterator[int]:
        """Yield seeds of what is random in a network and a loader: the same in every pass.

        They depend on the generator as it is, and leave it so.
        """
        own = torch.Generator()
        own.set_state(self.generator.get_state())
        while True:
            yield int(torch.randint(1 << 62, (), generator=own))


@contextmanager
def _before_each(
    modules: Iterable[nn.Module], note: Callable[[nn.Module, tuple[Any, ...]], None]
) -> Iterator[None]:
    """Have every call of the modules noted first."""
    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_pre_hook(note).remove)
        yield


def gradient(
    of: Tensor, named: Mapping[str, Tensor], *, create_graph: bool = False
) -> dict[str, Tensor]:
    """Return the gradient of a scalar for each parameter, zero where it does not depend on it."""
    found = torch.autograd.grad(
        of, list(named.values()), allow_unused=True, create_graph=create_graph
    )
    pairs = zip(named.items(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}


def _row(inputs: Any, k: int) -> Any:
    return tree_map_only(Tensor, lambda x: x[k : k + 1] if x.ndim else x, inputs)


def _samples(targets: Any) -> int:
    found = [x for x in tree_leaves(targets) if isinstance(x, Tensor) and x.ndim]
    if not found:
        raise ValueError(
            "losses of single samples are needed, and the targets hold no tensor with a batch "
            f"dimension, but {type(targets).__name__}."
        )
    return len(found[0])


class Criterion(Protocol):
    """How important is each unit? Larger = keep."""

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Score every unit.

        Args:
            groups: The competing units.
            evidence: What may be looked at; it is not changed.

        Returns:
            Group name -> float32, shape (units,), on the CPU.

        Raises:
            ValueError: What the criterion needs is not among the evidence.
        """


@runtime_checkable
class Anchored(Protocol):
    """A criterion that compares with what it measured before the first decision."""

    def anchor(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, Tensor]:
        """Return what later decisions find in `evidence.anchor`."""
