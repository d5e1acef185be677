"""The small network that runs recorded graphs over the user's own layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_unflatten

from prunus.space.capture import Recording


@dataclass(frozen=True)
class Program:
    """The text of a graph, and the function made of it, which takes the network first."""

    source: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    spec: TreeSpec

    @staticmethod
    def of(recording: Recording) -> "Program":
        """Write the graph down as Python."""
        code = recording.graph.python_code("self")
        names = dict(code.globals)
        exec(compile(code.src, "<rewritten graph>", "exec"), names)
        assert recording.spec is not None
        inputs = tuple(n.name for n in recording.graph.nodes if n.op == "placeholder")
        return Program(code.src, names["forward"], inputs, recording.spec)

    def signature(self) -> Callable[..., Any]:
        """Return a forward with the inputs' names that runs a `GraphNetwork`."""
        names = ", ".join(self.inputs)
        scope: dict[str, Any] = {}
        exec(f"def forward(self, {names}):\n    return self.run({names})\n", scope)
        return scope["forward"]  # type: ignore[no-any-return]

    def __call__(self, network: nn.Module, *inputs: Any) -> Any:
        """Run it on a network's submodules."""
        return tree_unflatten(self.function(network, *inputs), self.spec)


class GraphNetwork(nn.Module):
    """The user's submodules, under their own names, called by a recorded graph.

    It has the state-dict keys of the model it was recorded from and takes the same inputs. Where
    training differs from evaluation outside of layers, there is one graph for each.

    Args:
        model: Whose submodules, parameters and buffers it takes over.
        evaluating: What runs in eval mode.
        training: What runs in train mode.
        constants: Further tensors that the graphs read, by name.
        decisions: Calls by which the forward looked at values, so that only one branch is here.
        kept: Of the model that was recorded, tensor name -> dimension -> positions that stay.
        gone: Names of the residual branches that it lacks.
    """

    def __init__(
        self,
        model: nn.Module,
        evaluating: Program,
        training: Program,
        constants: dict[str, Tensor],
        decisions: tuple[str, ...],
        kept: dict[str, dict[int, Tensor]],
        gone: tuple[str, ...],
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
        for name, tensor in constants.items():
            self.register_buffer(name, tensor, persistent=False)
        # a class of its own, because exporters read the names of the inputs from the signature
        self.__class__ = type("GraphNetwork", (GraphNetwork,), {"forward": evaluating.signature()})

    def _get_name(self) -> str:
        return f"Graph of {self.origin}"

    def run(self, *inputs: Any) -> Any:
        """Run the graph of the present mode."""
        return (self.in_training if self.training else self.evaluating)(self, *inputs)
