"""The small network that runs recorded graphs over the user's own layers."""

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, fx, nn
from torch.utils._pytree import TreeSpec, tree_structure, tree_unflatten

from prunus.space.calls import Calls, told
from prunus.space.decisions import Refused
from prunus.space.recording import Recording
from prunus.space.running import tensors_in
from prunus.types import Example, call_arguments


@dataclass(frozen=True)
class Program:
    """The text of a graph, and the function made of it, which takes the network first.

    Attributes:
        source: The text.
        function: What it says.
        names: What the names in it stand for.
        calls: The graph as plain data, or why it is none: what it holds has no name to be found by.
        inputs: Names of what it takes.
        fixed: Input -> the value that it was recorded with and must be given again.
        parameters: The inputs of the original forward, where it names them.
        spec: How the outputs are nested.
        nested: Input -> how the tensors in it are nested, where it is no tensor itself.
    """

    source: str
    function: Callable[..., Any]
    names: dict[str, Any]
    calls: Calls | str
    inputs: tuple[str, ...]
    fixed: dict[str, Any]
    parameters: tuple[inspect.Parameter, ...]
    spec: TreeSpec
    nested: dict[str, TreeSpec]

    @staticmethod
    def of(recording: Recording) -> "Program":
        """Write the graph of a recording down as Python."""
        assert recording.spec is not None
        parameters = tuple(
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in recording.parameters
        )
        given = (recording.inputs, recording.fixed, parameters, recording.spec, recording.nested)
        return Program.over(recording.graph, *given)

    @staticmethod
    def over(graph: fx.Graph, *given: Any) -> "Program":
        """Write a graph down as Python.

        Args:
            graph: Is not kept.
            given: The attributes from `inputs` on.
        """
        code = graph.python_code("self")
        try:
            calls: Calls | str = told(graph)
        except ValueError as error:
            calls = str(error)
        return Program._of(code.src, dict(code.globals), calls, *given)

    @staticmethod
    def _of(source: str, names: dict[str, Any], *given: Any) -> "Program":
        """Compile the text, given what names in it stand for; a module may stand as its name."""
        names = {key: _found(value) for key, value in names.items()}
        scope = dict(names)
        exec(compile(source, "<rewritten graph>", "exec"), scope)
        return Program(source, scope["forward"], names, *given)

    def __reduce__(self) -> Any:
        """Be pickled as text; a copy shares the function."""
        names = {
            key: _Module(value.__name__) if isinstance(value, ModuleType) else value
            for key, value in self.names.items()
        }
        given = (self.calls, self.inputs, self.fixed, self.parameters, self.spec, self.nested)
        return Program._of, (self.source, names, *given)

    def __deepcopy__(self, memo: Any) -> "Program":
        """Return itself: nothing of it changes."""
        return self

    def signature(self) -> Callable[..., Any]:
        """Return a forward with the original's inputs and defaults that runs a `GraphNetwork`.

        Exporters read the names of the inputs from it.
        """
        scope: dict[str, Any] = {}
        if not self.parameters:
            return _forward(self.inputs, self.inputs, scope)
        declared = []
        for parameter in self.parameters:
            if parameter.default is inspect.Parameter.empty:
                declared.append(parameter.name)
            else:
                scope[f"_{parameter.name}"] = parameter.default
                declared.append(f"{parameter.name}=_{parameter.name}")
        keyword_only = [p.kind is inspect.Parameter.KEYWORD_ONLY for p in self.parameters]
        if any(keyword_only):
            declared.insert(keyword_only.index(True), "*")
        return _forward(declared, [parameter.name for parameter in self.parameters], scope)

    def __call__(self, network: nn.Module, given: dict[str, Any]) -> Any:
        """Run it on a network's submodules.

        Raises:
            Refused: An input has another value than the one the graph was recorded with.
        """
        unseen = {p.name: p.default for p in self.parameters if p.name not in self.inputs}
        for name, value in (self.fixed | unseen).items():
            if given[name] is not value and not _equal(given[name], value):
                raise Refused(
                    f"{name}={_shown(given[name])} cannot be given: this network is a graph that "
                    f"was recorded with {name}={value!r}. Prune, or save, with an example that "
                    "has it."
                )
        for name, spec in self.nested.items():
            if tree_structure(given[name]) != spec:
                raise Refused(
                    f"{name} cannot be given with {tree_structure(given[name]).num_leaves} entries "
                    f"in this order or nesting: this network is a graph that was recorded with "
                    f"{spec.num_leaves}. Prune, or save, with an example that has them."
                )
        return tree_unflatten(self.function(network, *(given[x] for x in self.inputs)), self.spec)


def _forward(
    declared: Iterable[str], names: Iterable[str], scope: dict[str, Any]
) -> Callable[..., Any]:
    """Write a forward that hands its inputs to `run`, by name."""
    pairs = ", ".join(f"{name!r}: {name}" for name in names)
    text = f"def forward(self, {', '.join(declared)}):\n    return self.run({{{pairs}}})\n"
    exec(text, scope)
    return scope["forward"]  # type: ignore[no-any-return]


class _Module(str):
    """The name of a module."""


def _found(value: Any) -> Any:
    return importlib.import_module(value) if isinstance(value, _Module) else value


def written(only: Iterable[Iterable[Any]]) -> str:
    """Write down the shapes that a graph takes."""
    ways = (", ".join(str(shape).replace("None", "any") for shape in shapes) for shapes in only)
    return " or ".join(dict.fromkeys(ways))


def _plain_attributes(model: nn.Module) -> frozenset[str]:
    """Return the names of the numbers, texts and flags that a model or its class has."""
    known = {name for kind in type(model).__mro__ for name in vars(kind)} | {*vars(model)}
    own = known - {*dir(nn.Module()), "training"}
    return frozenset(
        name
        for name in own
        if not name.startswith("__") and isinstance(inspect.getattr_static(model, name), _PLAIN)
    )


_PLAIN = (bool, int, float, str)


def _fits(shape: tuple[int, ...], held: tuple[int | None, ...]) -> bool:
    return len(shape) == len(held) and all(b in (None, a) for a, b in zip(shape, held, strict=True))


def _shown(value: Any) -> str:
    return f"<tensor of {tuple(value.shape)}>" if isinstance(value, Tensor) else repr(value)


def _equal(given: Any, value: Any) -> bool:
    return isinstance(given, int | float | str | None) and bool(given == value)


class GraphNetwork(nn.Module):
    """The user's submodules, under their own names, called by a recorded graph.

    It has the state-dict keys of the model it was recorded from and takes the same inputs. Where
    training differs from evaluation outside of layers, there is one graph for each.

    Args:
        model: Whose submodules, parameters and buffers it takes over.
        evaluating: What runs in eval mode.
        training: What runs in train mode.
        constants: Further tensors that the graphs read, by name.
        decisions: What decided the way that the forward took, so that only that is here.
        kept: Of the model that was recorded, tensor name -> dimension -> positions that stay.
        gone: Names of the residual branches that it lacks.
        evaluating_always: Modules that stay in eval mode when it is trained.

    Attributes:
        only: Shapes of the inputs that it is right for, in one or several alternatives, None for
            any size; None for any shapes.
        held: Plain attributes of the model, whose values are constants of the graphs.
    """

    held: frozenset[str] = frozenset()

    def __init__(
        self,
        model: nn.Module,
        evaluating: Program,
        training: Program,
        constants: dict[str, Tensor],
        decisions: tuple[str, ...],
        kept: dict[str, dict[int, Tensor]],
        gone: tuple[str, ...],
        evaluating_always: tuple[str, ...],
    ) -> None:
        super().__init__()
        self._modules = model._modules
        self._parameters = model._parameters
        self._buffers = model._buffers
        self._non_persistent_buffers_set = model._non_persistent_buffers_set
        self.training = model.training
        self.origin: str = model.origin if isinstance(model, GraphNetwork) else type(model).__name__
        self.evaluating, self.in_training = evaluating, training
        self.decisions = decisions
        self.kept = kept
        self.gone = gone
        self.evaluating_always = evaluating_always
        self.only: tuple[tuple[tuple[int | None, ...], ...], ...] | None = None
        self.held = model.held if isinstance(model, GraphNetwork) else _plain_attributes(model)
        for name, tensor in constants.items():
            self.register_buffer(name, tensor, persistent=False)
        self._take_signature()

    def _take_signature(self) -> None:
        """Get a class of its own: exporters read the names of the inputs from its forward.

        Its `train` is PyTorch's, which is known to set flags only, unless something stays in eval
        mode.
        """
        own: dict[str, Any] = {"forward": self.evaluating.signature()}
        if self.evaluating_always:
            own["train"] = _train
        self.__class__ = type("GraphNetwork", (GraphNetwork,), own)

    def __reduce__(self) -> Any:
        """Be copied and pickled without that class, which has no name to be found by."""
        return GraphNetwork.__new__, (GraphNetwork,), vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._take_signature()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; warn where the original's forward would have read it."""
        super().__setattr__(name, value)
        if name in self.held:
            warnings.warn(
                f"{name!r} is set on a graph of {self.origin}, which goes on with the value that "
                "it was recorded with; set it on the dense network and prune again, or make it a "
                "buffer.",
                stacklevel=2,
            )

    @property
    def looks(self) -> bool:
        """Whether the forward that was recorded looked at values."""
        return any(decision.isidentifier() for decision in self.decisions)

    def _get_name(self) -> str:
        return f"Graph of {self.origin}"

    def hold_to(self, examples: Iterable[Example], *, batch: bool) -> None:
        """Take only inputs of the examples' sizes, and of their batches where `batch` says so."""
        self.only = tuple(
            tuple(
                tuple(size if k or batch else None for k, size in enumerate(x.shape))
                for x in tensors_in(list(call_arguments(example)))
            )
            for example in examples
        )

    def run(self, given: dict[str, Any]) -> Any:
        """Run the graph of the present mode.

        Raises:
            Refused: It is right for other sizes, or other plain values, only.
        """
        if self.only is not None:
            shapes = [tuple(x.shape) for x in tensors_in(given)]
            if not any(
                len(shapes) == len(held) and all(map(_fits, shapes, held)) for held in self.only
            ):
                held = written(self.only)
                raise Refused(
                    f"inputs of shape {', '.join(map(str, shapes))} cannot be given: this network "
                    f"is a graph that is right for {held} only, since its forward does something "
                    "else for other sizes. Prune, or save, with an example of the size you need."
                )
        return (self.in_training if self.training else self.evaluating)(self, given)


def _train(network: GraphNetwork, mode: bool = True) -> GraphNetwork:
    """Set the mode; what the original keeps in eval mode stays in it."""
    nn.Module.train(network, mode)
    for name, module in network.named_modules():
        if name in network.evaluating_always:
            module.train(False)
    return network
