"""`torch.export`: a program that torch runs without the model's code, checked before it is named.

Where and how it was recorded, and the example, are left out of the file.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from prunus.deploy.case import Case, prepare, silence, summary, tensors
from prunus.errors import ExportError
from prunus.files import atomic
from prunus.types import Example, call_arguments


def export_program(
    model: nn.Module, example: Example, path: Path | str, *, dynamic_batch: bool = True
) -> Path:
    """Write `model` in evaluation mode as a `.pt2` file, which `torch.export.load` reads.

    The file is loaded and run on `example` and, with `dynamic_batch`, on one more row, and takes
    its name only if every output is within 1e-4 of the model's, relative to that output's largest
    absolute value. A copy of `model` is exported, in its own precision, on the CPU.

    Args:
        model: Any module; stays as it was.
        example: The model's input. The first dimension of its first tensor is the batch size; every
            other tensor whose first dimension is equal is taken to have the batch there too.
        path: Where to, ending in `.pt2`; replaced if it exists, left alone if anything fails.
        dynamic_batch: Leave the batch size open; otherwise it is that of `example`.

    Returns:
        `path`.

    Raises:
        ExportError: The model cannot be copied, run, or exported, or the file and the model
            disagree.
        ValueError: `example` has no tensor with a batch dimension, or `path` ends otherwise.
        OSError: `path` cannot be written.

    Example::

        export_program(result.model, x, "small.pt2")
        torch.export.load("small.pt2").module()(x)
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ValueError(f"the file of an exported program must end in .pt2, got '{path.name}'.")
    case = prepare(model, example, dynamic_batch=dynamic_batch, holds=(bool, int, float, str))
    program = _export(case)
    with atomic(path) as temporary:
        with temporary.open("wb") as file, silence():
            torch.export.save(program, file)
        try:
            with temporary.open("rb") as begun, silence():
                module = torch.export.load(begun).module()
        except Exception as error:
            raise ExportError(
                f"torch {torch.__version__} cannot load the export of {case.name} "
                f"({summary(error)}); {case.way_out('give it outputs in lists, tuples and dicts')}."
            ) from error

        @torch.no_grad()
        def run(example: Example) -> list[Tensor]:
            args, kwargs = call_arguments(example)
            return tensors(module(*args, **kwargs))

        case.check(run, "the exported program")
    return path


def _export(case: Case) -> ExportedProgram:
    # With a single row the exporter takes the batch for a constant: the last has one more.
    example = [*case.inputs.values()][-1]
    args, kwargs = call_arguments(example)
    shapes = case.dynamic_shapes(example)
    try:
        with torch.no_grad(), silence():
            program = torch.export.export(case.model, args, kwargs, dynamic_shapes=shapes)
    except Exception as error:
        raise ExportError(
            f"{case.name} cannot be exported by torch.export ({summary(error)}); {case.way_out()}."
        ) from error
    program.example_inputs = None
    for node in program.graph.nodes:
        for where in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
            node.meta.pop(where, None)
    return program
