"""Commands on one network or its exported files, without recipe or training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from prunus.cli import samples as named
from prunus.cli.models import build, pair, parse_target
from prunus.cli.scan import check_scan, print_sensitivity, scan
from prunus.cli.show import Json, print_json, print_table, told

# torch is imported where it is needed, so that --help comes at once.
if TYPE_CHECKING:
    from prunus.report import Inspection

Shape = Annotated[str | None, Parameter(name="--input")]


def shrink(
    model: str,
    /,
    *,
    target: str | None = None,
    runtime: str = "onnxruntime",
    precision: str = "fp32",
    threads: int = 1,
    batch: int = 1,
    rounds: int = 30,
    method: str = "l1_filter",
    changes: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    data: str | None = None,
    weights: Path | None = None,
    shape: Shape = None,
    out: Path = Path("shrunk"),
    json: Json = False,
) -> None:
    """Make a network smaller without training it, prove it equal to its masked self, export it.

    Then the dense and the smaller network are timed in turn, each in every precision that the
    runtime has: how fast they are in int8 belongs beside any speed-up of float32.

    ```
    prunus shrink torchvision:resnet18 --target macs=0.5
    prunus shrink torchvision:resnet18 --target speedup=2 --runtime openvino
    prunus shrink resnet20 --weights resnet20.th --method thinet --set samples=20 --data cifar10
    prunus shrink package.nets:build --input 3,64,64 --weights net.safetensors --target params=0.3
    ```

    Args:
        model: A network of the zoo such as resnet20, or torchvision:NAME, or timm:NAME where timm
            is installed, or your own function as package.module:function.
        target: One of sparsity, density, params, macs or bytes, as macs=0.5: a fraction of the
            dense network; or speedup or latency_ms, as speedup=2, which are measured. By default
            the method's own.
        runtime: Where time is measured: onnxruntime, openvino, sparse, torch-compile or torch.
        precision: Of a target in time: fp32, bf16 or int8.
        threads: Threads of the runtime.
        batch: Rows of one inference.
        rounds: Timings of each network, at least 6; 0 for none.
        method: See `prunus methods`; one that prunes while the network trains needs `prunus run`.
        changes: Change one argument of the method, as key=value; may be given again. `prunus
            methods NAME` lists them.
        data: A dataset, as for recipes, such as cifar10, or folder:PATH with train/CLASS/*.png.
            Methods that look at data see ten batches of 64 training samples, and as many validation
            samples where they judge what they have tried. The same batches calibrate the files in
            int8, which are then kept, too; without data those are made for timing alone.
        weights: A safetensors file, or a PyTorch file of plain tensors.
        shape: Shape of one input without the batch, as 3,32,32; needed for your own network, unless
            its function returns (model, example) with any input: a tensor, a tuple of several or a
            dict by name. For one that reads tokens say what they are below, as 128:below=30522.
            Of an example whose rows are samples the first is taken; any other is taken whole.
        out: The folder for dense.onnx, pruned.onnx, pruned.safetensors, mask.safetensors and
            report.json. The ONNX files take any batch, or where that fails one alone.
        json: Print the report as JSON.
    """
    from prunus.cli.delivery import deliver, print_delivered
    from prunus.criteria import Calibration
    from prunus.deploy.runtimes import check_runtime
    from prunus.deploy.timing import check_rounds
    from prunus.errors import ExportError
    from prunus.files import check_folder, write_json, write_tensors
    from prunus.pruning import prune
    from prunus.recipe import chosen_method
    from prunus.saving import save
    from prunus.types import Setting, rows_of

    chosen = chosen_method(method, changes or ())
    if chosen.during_training:
        raise ValueError(
            f"method '{method}' prunes while the network trains, and shrink does not train; give a "
            f"recipe to `prunus run`. `prunus methods {method}` shows one."
        )
    check_runtime(runtime)
    check_rounds(rounds)
    where = Setting(runtime=runtime, precision=precision, threads=threads, batch=batch)
    goal = None if target is None else parse_target(target, where)
    if precision != "fp32" and (goal is None or not goal.timed):
        raise ValueError(
            f"--precision is that of a target in time (--target speedup=2), got {precision} with "
            f"{target or 'none'}; leave it out: every precision is timed."
        )
    if data is not None:
        named.check(data)
    check_folder(out)
    network, example = build(model, weights, shape)
    rows = rows_of(example)
    if rows not in (1, batch) and (batch > 1 or (goal is not None and goal.timed)):
        raise ValueError(
            f"the {rows} rows of the example are no samples, so that a time is that of them all; "
            f"got --batch {batch}, give --batch {rows}."
        )
    samples = None if data is None else named.read(data, example, 64)
    with told(shown=not json):
        result = prune(
            network,
            example,
            method=chosen,
            target=goal,
            calibration=None if samples is None else Calibration.of(samples),
            progress=not json,
        )
    write_tensors(out / "mask.safetensors", result.mask)
    try:
        save(result, out / "pruned.safetensors", example)
        reload = "prunus.load(path) gives it back"
    except ExportError:
        save(result, out / "pruned.safetensors")
        reload = "prunus.load(path, dense_model, example) gives it back"
    networks = {"dense": network, "pruned": result.model}
    document = result.report.to_dict()
    document |= deliver(networks, example, where, rounds, out, samples)
    write_json(out / "report.json", document)
    if json:
        print_json(document)
    else:
        print(result.report)
        print_delivered(document)
        print(f"written to {out}")
        if result.report.form == "rewritten graph":
            print("it is a rewritten graph, because sizes are written in the forward")
        print(f"pruned.safetensors: {reload}")
    if reason := document["not_exported"]:
        raise ExportError(f"all but the ONNX files was written to {out}: {reason}")


def inspect(
    model: str,
    /,
    *,
    weights: Path | None = None,
    shape: Shape = None,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    coverage: Annotated[bool, Parameter(negative="")] = False,
    sensitivity: Annotated[bool, Parameter(negative="")] = False,
    data: str | None = None,
    samples: int = 1000,
    method: str = "magnitude",
    html: Path | None = None,
    json_file: Path | None = None,
    json: Json = False,
) -> None:
    """Show what can be removed from a network, what it costs, and what may not go and why.

    Units are channels, or attention heads, that go together with all that is coupled to them. One
    of them costs what the dense network saves when it alone goes. Equal numbers in repeated blocks
    share a line: blocks.{0-11}.fc1.

    ```
    prunus inspect resnet20
    prunus inspect torchvision:mobilenet_v2 --coverage
    prunus inspect torchvision:vit_b_16 --html vit.html
    prunus inspect package.nets:build --input 128:below=30522 --json
    prunus inspect resnet20 --weights resnet20.th --sensitivity --data cifar10 --html scan.html
    ```

    Args:
        model: As for `prunus shrink`.
        weights: As for `prunus shrink`; only --sensitivity asks for more than their fit.
        shape: As for `prunus shrink`.
        every: List every layer of repeated blocks.
        coverage: Only how much can go, which is 1 - cost(one unit in every group) / cost(dense) of
            the parameters and of the multiply-accumulates, and what stays, by reason: its channels,
            and the parameters in tensors that stay whole.
        sensitivity: Also the accuracy with each layer alone pruned, at several sparsities, without
            training; and for single weights the threshold q that `han` takes for the most that a
            layer can lose at 1 % of accuracy.
        data: With --sensitivity: a dataset, as for recipes. Its validation samples are used, which
            are held out of the training data: weights from elsewhere may have seen them.
        samples: With --sensitivity: on how many of them.
        method: With --sensitivity: whose units go, and by which criterion, which has to
            rank them without training.
        html: Write a page with the network drawn, and all the tables.
        json_file: Write what --json prints.
        json: Print everything as JSON, nothing collapsed: model, params, macs, bytes, coverage,
            groups (each with its units, coupled and reading layers, and the cost of one unit),
            frozen, layers, unknown, and sensitivity where it was asked for.
    """
    from prunus.files import write_json
    from prunus.report import inspection, write_inspection
    from prunus.space import trace

    if sensitivity or data is not None:
        check_scan(data, samples, method, asked=sensitivity)
    network, example = build(model, weights, shape)
    found = inspection(model, network, trace(network, example))
    scanned = None
    if sensitivity and data is not None:
        scanned = scan(network, example, data, samples, method, progress=not json)
    document = found.to_dict()
    if scanned is not None:
        document["sensitivity"] = scanned.to_dict()
    if html is not None:
        write_inspection(found, html, scanned)
    if json_file is not None:
        write_json(json_file, document)
    if json:
        print_json(document)
        return
    costs = found.coverage.params.dense, found.coverage.macs.dense, found.bytes
    print("{:,} params, {:,} macs, {:,} bytes".format(*costs))
    if coverage:
        _print_coverage(found)
    else:
        _print_units(found, every)
    if scanned is not None:
        print_sensitivity(scanned)
    for operation, times in found.unknown.items():
        print(f"no rule for {operation} (met {times} times): what it touches stays whole")
    if html is not None:
        print(f"page: {html}")
    if json_file is not None:
        print(f"data: {json_file}")


def _print_units(found: "Inspection", every: bool) -> None:
    from prunus.report.lines import branch_lines, frozen_lines, group_lines
    from prunus.report.quantities import count

    groups = [(line, found.groups[line.rows[0]]) for line in group_lines(found, every)]
    print(found.coverage.sentence)
    print_table(
        "What can be removed, and the cost of one unit",
        ("channels of", "units", "params", "MACs", "together with those of"),
        [
            (
                line.name,
                str(group.units),
                count(group.unit.params),
                count(group.unit.macs),
                ", ".join(line.related),
            )
            for line, group in groups
        ],
    )
    branches = [(line, found.branches[line.rows[0]].cost) for line in branch_lines(found, every)]
    if branches:
        print_table(
            "Residual branches that can go as a whole",
            ("branch", "params", "MACs"),
            [(line.name, count(cost.params), count(cost.macs)) for line, cost in branches],
        )
    frozen = [(line, found.frozen[line.rows[0]]) for line in frozen_lines(found, every)]
    print_table(
        "What cannot",
        ("channels of", "count", "because each of them"),
        [(line.name, str(kept.channels), kept.reason) for line, kept in frozen],
    )


def _print_coverage(found: "Inspection") -> None:
    from prunus.report.inspection import REMOVABLE
    from prunus.report.quantities import count, percent

    total = found.coverage.params.dense
    shares = {"parameters": found.coverage.params, "MACs": found.coverage.macs}
    print_table(
        "How much can go",
        ("", "in all", "one unit per group", "can go"),
        [
            (name, count(share.dense), count(share.least), percent(share.removable, 2))
            for name, share in shares.items()
        ],
    )
    print_table(
        "What stays",
        ("because each of them", "layers", "channels", "params in whole tensors"),
        [
            (
                reason.reason,
                str(reason.layers),
                f"{reason.channels:,}",
                f"{count(reason.params)} ({percent(reason.params / max(1, total))})",
            )
            for reason in found.coverage.reasons
        ],
    )
    print(REMOVABLE)


def export(
    model: str,
    path: Path,
    /,
    *,
    weights: Path | None = None,
    shape: Shape = None,
    json: Json = False,
) -> None:
    """Write a network as ONNX or for torch.export, checked against PyTorch before it is named.

    ```
    prunus export resnet20 resnet20.onnx --weights resnet20.safetensors
    prunus export resnet20 resnet20.pt2
    prunus export resnet20 pruned.onnx --weights shrunk/pruned.safetensors
    ```

    Args:
        model: As for `prunus shrink`.
        path: The file to write: .onnx, or .pt2 for torch.export.load.
        weights: As for `prunus shrink`, or a smaller network that Prunus saved.
        shape: As for `prunus shrink`.
        json: Print as JSON.
    """
    from prunus.deploy import export_onnx, export_program

    writers = {".onnx": export_onnx, ".pt2": export_program}
    if path.suffix not in writers:
        raise ValueError(f"the file to write must end in .onnx or .pt2, got '{path}'.")
    network, example = build(model, weights, shape)
    size = writers[path.suffix](network, pair(example), path).stat().st_size
    if json:
        print_json({"path": str(path), "bytes": size})
    else:
        print(f"{path}: {size:,} bytes, any batch size, equal to PyTorch within 1e-4")
