"""ONNX: one file, checked against the model before it takes its name."""

from itertools import chain
from pathlib import Path

import onnxruntime
import torch
from onnxscript import ir
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from prunus.deploy import translations
from prunus.deploy.case import Case, prepare, silence, summary, tensors
from prunus.errors import ExportError
from prunus.files import atomic
from prunus.types import Example, call_arguments

OPSET = 23
"""The newest operator set that torch's exporter translates to without a later conversion."""

_MAX_BYTES = 2**31 - 1  # what one protobuf message, hence one self-contained file, can hold


def export_onnx(
    model: nn.Module, example: Example, path: Path | str, *, dynamic_batch: bool = True
) -> Path:
    """Write `model` as one self-contained ONNX file in float32 and evaluation mode.

    Torch's dynamo exporter does the work; it folds batch normalisation into the convolution before
    it. The file is run in ONNX Runtime on `example` and, with `dynamic_batch`, on one more row, and
    takes its name only if every output is within 1e-4 of torch's, relative to that output's largest
    absolute value. A copy of `model` is exported, so that the model keeps its mode, type, and
    device.

    Args:
        model: Any module; moved to the CPU and to float32 in the copy.
        example: The model's input. The first dimension of its first tensor is the batch size; every
            other tensor whose first dimension is equal is taken to have the batch there too.
        path: Where to; replaced if it exists, left alone if anything fails.
        dynamic_batch: Leave the batch size open; otherwise it is that of `example`.

    Returns:
        `path`.

    Raises:
        ExportError: The model cannot be copied, run, or exported, weighs 2 GiB or more, or the file
            and the model disagree.
        ValueError: `example` has no tensor with a batch dimension.
        OSError: `path` cannot be written.
    """
    path = Path(path)
    size = 4 * sum(tensor.numel() for tensor in chain(model.parameters(), model.buffers()))
    if size > _MAX_BYTES:
        raise ExportError(
            f"{type(model).__name__} has {size / 2**30:.1f} GiB of weights, but one ONNX file "
            "holds less than 2 GiB; prune it further, or export it in parts."
        )
    case = prepare(model, example, dynamic_batch=dynamic_batch, dtype=torch.float32)
    with atomic(path) as temporary:
        session = _written(case, temporary)
        names = [value.name for value in session.get_inputs()]

        def run(example: Example) -> list[object]:
            arrays = [tensor.numpy() for tensor in tensors(example)]
            return list(session.run(None, dict(zip(names, arrays, strict=True))))

        case.check(run, "ONNX Runtime")
    return path


def _written(case: Case, path: Path) -> onnxruntime.InferenceSession:
    """Write the file and load it, without the exporter's optimizer where that goes wrong.

    Raises:
        ExportError: The model cannot be exported, or the file not be loaded.
        OSError: It cannot be written.
    """
    try:
        _export(case, optimize=True).save(path, external_data=False)
        return _session(path)
    except (ExportError, OSError):
        raise
    except Exception:  # the optimizer failed, or has left what cannot be loaded
        _export(case, optimize=False).save(path, external_data=False)
    try:
        return _session(path)
    except Exception as error:
        raise ExportError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load the export of {case.name} "
            f"({summary(error)}); a newer onnxruntime may know the operator."
        ) from error


def _export(case: Case, *, optimize: bool) -> torch.onnx.ONNXProgram:
    try:
        # The fused kernels lay their outputs out otherwise than what they are translated as.
        with silence(), sdpa_kernel(SDPBackend.MATH):
            try:
                program = _translated(case, optimize)
            except torch.onnx.OnnxExporterError as error:
                if "scaled_dot_product_attention" not in str(error.__cause__):
                    raise
                program = _translated(case, optimize, products=True)
    except Exception as error:
        if optimize and isinstance(error, ir.passes.PassError):
            raise
        raise ExportError(
            f"{case.name} cannot be exported to ONNX ({summary(error.__cause__ or error)}); "
            f"{case.way_out()}."
        ) from error
    if program is None:
        raise ExportError(f"the exporter of torch {torch.__version__} returned nothing; update it.")
    _fill_masks(program.model.graph)
    return program


def _translated(
    case: Case, optimize: bool, *, products: bool = False
) -> torch.onnx.ONNXProgram | None:
    """Translate; with `products` attention as such, of which the operator takes few forms."""
    example = case.inputs["the example"]
    args, kwargs = call_arguments(example)
    return torch.onnx.export(
        case.model,
        args,
        kwargs=kwargs,
        dynamic_shapes=case.dynamic_shapes(example),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
        optimize=optimize,
        custom_translation_table=translations.table(products=products),
    )


def _fill_masks(graph: ir.Graph) -> None:
    """Give each attention mask a row per query, where it has one for all.

    ONNX lets a mask be broadcast, such as one of padding; ONNX Runtime 1.32 refuses to.
    """
    for node in list(graph):
        mask = node.inputs[3] if node.op_type == "Attention" and len(node.inputs) > 3 else None
        if mask is None or mask.shape is None or mask.shape[-2] != 1:
            continue
        tape = ir.tape.Tape()
        one = tape.initializer(ir.tensor([1]), f"{node.name}_one")
        queries = tape.op("Shape", node.inputs[:1], {"start": 2, "end": 3})
        shape = tape.op("Concat", [queries, one], {"axis": 0})
        node.replace_input_with(3, tape.op("Expand", [mask, shape]))
        graph.insert_before(node, tape.nodes)
        graph.initializers.add(one)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
