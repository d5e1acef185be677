"""Commands on one network or its exported files, without recipe or training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from prunus.cli.show import Json, print_json, print_table

# torch is imported where it is needed, so that --help comes at once.
if TYPE_CHECKING:
    from torch import Tensor, nn

    from prunus.types import Target

Shape = Annotated[str | None, Parameter(name="--input")]


def shrink(
    model: str,
    /,
    *,
    target: str | None = None,
    method: str = "l1_filter",
    weights: Path | None = None,
    shape: Shape = None,
    out: Path = Path("shrunk"),
    json: Json = False,
) -> None:
    """Make a network smaller without training it, prove it equal to its masked self, export it.

    ```
    prunus shrink torchvision:resnet18 --target macs=0.5
    prunus shrink package.nets:build --input 3,64,64 --weights net.safetensors --target params=0.3
    ```

    Args:
        model: A network of the zoo such as resnet20, or torchvision:NAME, or your own function as
            package.module:function.
        target: One of sparsity, density, params, macs or bytes, as macs=0.5: a fraction of the
            dense network. By default the method's own.
        method: See `prunus methods`.
        weights: A safetensors file, or a PyTorch file of plain tensors.
        shape: Shape of one input without the batch, as 3,32,32; needed for your own network.
        out: The folder for pruned.safetensors, mask.safetensors, pruned.onnx and report.json.
        json: Print the report as JSON.
    """
    from prunus.deploy import export_onnx
    from prunus.files import write_json, write_tensors
    from prunus.pruning import prune
    from prunus.saving import save

    network, example = _network(model, weights, shape)
    goal = None if target is None else _target(target)
    result = prune(network, example, method=method, target=goal)
    export_onnx(result.model, _pair(example), out / "pruned.onnx")
    write_tensors(out / "mask.safetensors", result.mask)
    if result.report.form != "rewritten graph":
        save(result, out / "pruned.safetensors")
    document = result.report.to_dict()
    write_json(out / "report.json", document)
    if json:
        print_json(document)
    else:
        print(f"{result.report}\nwritten to {out}")
        if result.report.form == "rewritten graph":
            print(
                "a rewritten graph has no class to load its weights into, so there is no "
                "pruned.safetensors; flatten(1) instead of view(-1, N) keeps the class."
            )


def inspect(
    model: str,
    /,
    *,
    weights: Path | None = None,
    shape: Shape = None,
    json: Json = False,
) -> None:
    """Show what can be removed from a network, what it costs, and what may not go and why.

    ```
    prunus inspect resnet20
    prunus inspect torchvision:mobilenet_v2 --json
    ```

    Args:
        model: As for `prunus shrink`.
        weights: As for `prunus shrink`; only their fit matters here.
        shape: As for `prunus shrink`.
        json: Print as JSON.
    """
    from prunus.space import trace

    space = trace(*_network(model, weights, shape))
    costs = {name: space.cost(name).dense for name in ("params", "macs", "bytes")}
    if json:
        groups = [
            {"name": group.name, "units": group.size, "coupled": list(group.coupled)}
            for group in space.groups
        ]
        frozen = [
            {"name": part.name, "channels": part.channels, "reason": part.reason}
            for part in space.frozen
        ]
        document = {"model": model, **costs, "groups": groups, "frozen": frozen}
        print_json(document | {"unknown": dict(space.unknown)})
        return
    print(", ".join(f"{cost:,} {name}" for name, cost in costs.items()))
    print_table(
        "What can be removed",
        ("channels of", "units", "together with those of"),
        [(g.name, str(g.size), ", ".join(g.coupled[1:])) for g in space.groups],
    )
    print_table(
        "What cannot",
        ("channels of", "count", "because each of them"),
        [(part.name, str(part.channels), part.reason) for part in space.frozen],
    )
    for operation, count in space.unknown.items():
        print(f"no rule for {operation} (met {count} times): what it touches stays whole")


def export(
    model: str,
    path: Path,
    /,
    *,
    weights: Path | None = None,
    shape: Shape = None,
    json: Json = False,
) -> None:
    """Write a network as an ONNX file, checked against PyTorch before it takes its name.

    ```
    prunus export resnet20 resnet20.onnx --weights resnet20.safetensors
    prunus export resnet20 pruned.onnx --weights shrunk/pruned.safetensors
    ```

    Args:
        model: As for `prunus shrink`.
        path: The file to write.
        weights: As for `prunus shrink`, or a smaller network that Prunus saved.
        shape: As for `prunus shrink`.
        json: Print as JSON.
    """
    from prunus.deploy import export_onnx

    network, example = _network(model, weights, shape)
    size = export_onnx(network, _pair(example), path).stat().st_size
    if json:
        print_json({"path": str(path), "bytes": size})
    else:
        print(f"{path}: {size:,} bytes, any batch size, equal to PyTorch within 1e-4")


def bench(
    *files: Path,
    batch: int = 1,
    threads: int = 1,
    rounds: int = 50,
    json: Json = False,
) -> None:
    """Time ONNX files against each other in ONNX Runtime; speed-ups are over the first.

    The files take turns, so that a change of the machine's speed reaches them alike.

    ```
    prunus bench dense.onnx pruned.onnx --batch 16 --threads 2
    ```

    Args:
        files: ONNX files, the reference first.
        batch: Rows per inference.
        threads: Threads inside an operator.
        rounds: Timings of each file.
        json: Print as JSON.
    """
    from dataclasses import asdict

    from prunus.deploy import latency, speedup

    if not files:
        raise ValueError(
            "bench needs an ONNX file, got none; give one or more, the reference first."
        )
    times = latency({str(f): f for f in files}, batch=batch, threads=threads, rounds=rounds)
    first = next(iter(times.values()))
    speedups = {name: speedup(first, one) for name, one in times.items()}
    if json:
        rows = [
            {
                "file": name,
                "latency_ms": {"median": one.median_ms, "low": one.low_ms, "high": one.high_ms},
                "speedup": asdict(speedups[name]),
            }
            for name, one in times.items()
        ]
        setting = {"runtime": first.runtime, "threads": threads, "batch": batch, "rounds": rounds}
        print_json(setting | {"files": rows})
        return
    print_table(
        f"{first.runtime}, batch {batch}, {threads} threads, median of {rounds} rounds",
        ("file", "ms", "95 % interval", "speed-up", "95 % interval"),
        [
            (
                name,
                f"{one.median_ms:.4g}",
                f"{one.low_ms:.4g} to {one.high_ms:.4g}",
                f"{speedups[name].median:.2f}",
                f"{speedups[name].low:.2f} to {speedups[name].high:.2f}",
            )
            for name, one in times.items()
        ],
    )


def _network(model: str, weights: Path | None, shape: str | None) -> "tuple[nn.Module, Tensor]":
    """Build the network that the command line names, and an input (1, *shape) for it."""
    import torch

    from prunus import saving, zoo
    from prunus.files import read_tensors

    own = ":" in model and not model.startswith("torchvision:")
    if own and shape is None:
        raise ValueError(
            f"network '{model}' is your own; give the shape of its input, as --input 3,32,32."
        )
    torch.manual_seed(0)
    network = zoo.user_network(model) if own else zoo.network(model)
    if weights is not None:
        safe = weights.suffix == ".safetensors"
        if safe and "plan" in read_tensors(weights)[1]:
            network = saving.load(weights, network)
        else:
            zoo.load_weights(network, weights)
    if shape is None:
        return network, zoo.example(model)[:1]
    return network, torch.randn(1, *_sizes(shape), generator=torch.Generator().manual_seed(0))


def _sizes(shape: str) -> list[int]:
    try:
        return [int(size) for size in shape.split(",")]
    except ValueError as error:
        raise ValueError(
            f"--input must be sizes with commas, as 3,32,32, got '{shape}'."
        ) from error


def _pair(example: "Tensor") -> "Tensor":
    # Two rows, because the exporter takes a batch of one for a constant.
    return example.expand(2, *example.shape[1:])


def _target(text: str) -> "Target":
    from dataclasses import fields

    from prunus.names import did_you_mean
    from prunus.types import Target

    name, _, value = text.partition("=")
    known = [field.name for field in fields(Target)]
    if name not in known:
        raise ValueError(
            f"a target must be one of {', '.join(known)}, as macs=0.5, got '{text}'."
            + did_you_mean(name, known)
        )
    try:
        return Target(**{name: float(value)})
    except ValueError as error:
        if "could not convert" not in str(error):
            raise
        raise ValueError(f"{name} must be a number, as {name}=0.5, got '{value}'.") from error
