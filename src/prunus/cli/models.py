"""What MODEL, --weights and --input name on the command line."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

# torch is imported where it is needed, so that --help comes at once.
if TYPE_CHECKING:
    from torch import Tensor, nn

    from prunus.types import Example, Setting, Target

_TIMM = "timm:"
_INPUT = re.compile(r"(?P<sizes>[1-9]\d*(,[1-9]\d*)*)(:below=(?P<below>[1-9]\d*))?")


def build(model: str, weights: Path | None, shape: str | None) -> "tuple[nn.Module, Example]":
    """Build the network that the command line names, and an input for it, of one sample.

    An example of the user's stays whole where its rows are not samples.

    Args:
        model: A network of the zoo, torchvision:NAME, timm:NAME or package.module:function.
        weights: A file to load into it.
        shape: What the input is, as "3,32,32" or "128:below=30522"; None where the name says it.

    Raises:
        ValueError: One of them cannot be understood, or the shape is missing.
    """
    import torch

    from prunus import saving, zoo
    from prunus.types import first_sample

    from_timm = model.startswith(_TIMM)
    own = ":" in model and not from_timm and not model.startswith("torchvision:")
    example: Example | None = None if shape is None else _input(shape)
    torch.manual_seed(0)
    if own:
        network, given = zoo.user_network_and_example(model)
        example = given if example is None else example
    else:
        network = _timm_network(model) if from_timm else zoo.network(model)
    if own and example is None:
        raise ValueError(
            f"network '{model}' is your own; give the shape of its input, as --input 3,32,32, or "
            "let the function return (model, example)."
        )
    if example is None:
        example = _timm_input(model, network) if from_timm else zoo.example(model)
    if weights is not None:
        if weights.suffix == ".safetensors" and saving.is_saved(weights):
            network = saving.load(weights, network, example)
        else:
            zoo.load_weights(network, weights)
    single = not own or _takes_rows_apart(network, example)
    return network, first_sample(example) if single else example


def _takes_rows_apart(network: "nn.Module", example: "Example") -> bool:
    """Say whether a network gives for the last rows alone the last rows of its outputs.

    It does not where sequences lie along the first dimension, or nodes, or layers of a state. The
    last rows tell, as the first of a sequence may depend on nothing but themselves.
    """
    import torch
    from torch import Tensor
    from torch.utils._pytree import tree_leaves, tree_map_only

    from prunus.space.running import preserved
    from prunus.types import call_arguments

    def outputs(given: "Example") -> list[Tensor]:
        args, kwargs = call_arguments(given)
        with preserved(network, seed=0):
            return [1.0 * x for x in tree_leaves(network(*args, **kwargs)) if isinstance(x, Tensor)]

    def last(x: Tensor) -> Tensor:
        return x[-1:] if x.ndim else x

    def alike(x: Tensor, y: Tensor) -> bool:
        scale = float(y[y.isfinite()].abs().max())
        return x.shape == y.shape and torch.allclose(x, y, rtol=1e-2, atol=1e-2 * scale)

    try:
        alone, all_rows = outputs(tree_map_only(Tensor, last, example)), outputs(example)
        pairs = [(x, last(y)) for x, y in zip(alone, all_rows, strict=True) if y.ndim]
        return bool(pairs) and all(alike(x, y) for x, y in pairs)
    except Exception:  # whatever a network raises on a part of its input
        return False


def pair(example: "Example") -> "Example":
    """Return a batch of one twice: the exporter takes it for a constant."""
    from torch import Tensor
    from torch.utils._pytree import tree_leaves, tree_map_only

    tensors = [x for x in tree_leaves(example) if isinstance(x, Tensor) and x.ndim]
    if not tensors or len(tensors[0]) != 1:
        return example

    def twice(x: Tensor) -> Tensor:
        return x.expand(2, *x.shape[1:]) if x.ndim and len(x) == 1 else x

    found: Example = tree_map_only(Tensor, twice, example)
    return found


def parse_target(text: str, where: "Setting | None" = None) -> "Target":
    """Read a target such as "macs=0.5".

    Args:
        text: The target.
        where: Where a time is measured.

    Raises:
        ValueError: There is no such target, or the value is none for it.
    """
    from prunus.names import did_you_mean
    from prunus.types import METRICS, TIMES, Target

    name, _, value = text.partition("=")
    known = list(METRICS)
    if name not in known:
        raise ValueError(
            f"a target must be one of {', '.join(known)}, as macs=0.5, got '{text}'."
            + did_you_mean(name, known)
        )
    try:
        place = {} if where is None or name not in TIMES else asdict(where)
        return Target.of(name, float(value), **place)
    except ValueError as error:
        if "could not convert" not in str(error):
            raise
        raise ValueError(f"{name} must be a number, as {name}=0.5, got '{value}'.") from error


def _input(text: str) -> "Tensor":
    """Make the input that --input names: normal noise, or whole numbers below a bound."""
    import torch

    found = _INPUT.fullmatch(text)
    if found is None:
        raise ValueError(
            "--input must be sizes with commas, as 3,32,32, or for whole numbers with their bound, "
            f"as 128:below=30522, got '{text}'."
        )
    sizes = [1, *map(int, found["sizes"].split(","))]
    generator = torch.Generator().manual_seed(0)
    if found["below"] is None:
        return torch.randn(sizes, generator=generator)
    return torch.randint(int(found["below"]), sizes, generator=generator)


def _timm() -> Any:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ValueError("timm:NAME needs timm; pip install timm.") from error
    return timm


def _timm_network(model: str) -> "nn.Module":
    from prunus.names import did_you_mean

    timm, name = _timm(), model.removeprefix(_TIMM)
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}.{did_you_mean(name, timm.list_models())}")
    network: nn.Module = timm.create_model(name, pretrained=False)
    return network


def _timm_input(model: str, network: "nn.Module") -> "Tensor":
    size = (getattr(network, "pretrained_cfg", None) or {}).get("input_size")
    if size is None:
        raise ValueError(f"'{model}' does not say its input; give its shape, as --input 3,224,224.")
    return _input(",".join(map(str, size)))
