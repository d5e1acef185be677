"""What a saved network's file says beside its tensors, and how it is checked when it is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.types import NonNegativeInt

from prunus.errors import CheckpointError
from prunus.space.attributes import SIZES

FORMAT = "prunus-2"

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)

Sizes = dict[str, NonNegativeInt | tuple[NonNegativeInt, ...]]
Shape = tuple[NonNegativeInt | None, ...]


class Graph(BaseModel):
    """What a rewritten graph is beside its layers.

    Args:
        gone: Names of the residual branches that it lacks.
        only: Shapes of the inputs that it takes, in one or several alternatives; None for any.
        text: Digits that stand for the numbers in it.
    """

    model_config = _STRICT

    gone: tuple[str, ...]
    only: tuple[tuple[Shape, ...], ...] | None
    text: str


class Layer(BaseModel):
    """One of PyTorch's own layers.

    Args:
        kind: Its class in `torch.nn`; "" for a module that only holds others and tensors.
        given: Arguments of its constructor, as `space.calls.value_told` has them.
        same: The name of an earlier module that it is.
    """

    model_config = _STRICT

    kind: str = ""
    given: dict[str, Any] = {}
    same: str | None = None


class Called(BaseModel):
    """A recorded graph.

    Args:
        calls: See `space.calls`.
        inputs: Names of what it takes.
        fixed: Input -> the value that it must be given, as `space.calls.value_told` has it.
        parameters: The inputs of the original forward: name, kind, and the default, if any.
        outputs: How they are nested.
        nested: Input -> how the tensors in it are nested.
    """

    model_config = _STRICT

    calls: list[list[Any]]
    inputs: tuple[str, ...]
    fixed: dict[str, Any]
    parameters: tuple[tuple[str, str, tuple[Any, ...]], ...]
    outputs: Any
    nested: dict[str, Any]


class Network(BaseModel):
    """A network that its file describes: layers, and the graphs that call them.

    Args:
        layers: Every module by its name, the network itself as "", parents before children.
        buffers: Name -> whether it is part of the state dict; all other tensors are parameters.
        frozen: Names of the parameters that are not trained.
        training: Whether it is in train mode.
        graphs: What it runs in eval and in train mode; one for both; none for layers in a row.
        decisions: What decided the way that the graph took.
        evaluating_always: Modules that stay in eval mode.
    """

    model_config = _STRICT

    layers: dict[str, Layer]
    buffers: dict[str, bool]
    frozen: tuple[str, ...]
    training: bool
    graphs: tuple[Called, ...] = Field(max_length=2)
    decisions: tuple[str, ...] = ()
    evaluating_always: tuple[str, ...] = ()


class Header(BaseModel):
    """What a file says of a network.

    Args:
        origin: The class that was saved.
        plan: Module -> the sizes that it holds.
        tied: Further names of some tensors.
        graph: Of a recorded graph.
        rewritten: Whether the network was a graph before it was saved.
        network: The whole of it, where it can be described.
        untold: Why it cannot.
    """

    model_config = _STRICT

    origin: str = ""
    plan: dict[str, Sizes]
    tied: dict[str, str] = {}
    graph: Graph | None = None
    rewritten: bool = False
    network: Network | None = None
    untold: str = ""

    def metadata(self) -> dict[str, str]:
        """Return it as text for a file's header."""
        return {"format": FORMAT, "network": self.model_dump_json(exclude_defaults=True)}


def read_header(path: Path | str, metadata: Mapping[str, str]) -> Header:
    """Read and check what a file says.

    Args:
        path: For the error.
        metadata: The text in the header of a safetensors file.

    Raises:
        CheckpointError: It is of another kind, or damaged.
    """
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} was not written by prunus.save (format {metadata.get('format')!r}); plain "
            "weights are loaded with prunus.zoo.load_weights."
        )
    try:
        header = Header.model_validate_json(metadata.get("network", ""))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))[:80]
        raise CheckpointError(
            f"{path} has a damaged header (at {where!r}: {first['msg'][:200]})."
        ) from error
    for name, sizes in header.plan.items():
        if odd := sizes.keys() - set(SIZES):
            raise CheckpointError(
                f"{path} has a damaged header (unknown attribute {min(odd)[:40]!r} of "
                f"{name[:40]!r})."
            )
    return header
