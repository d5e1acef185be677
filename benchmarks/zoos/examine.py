"""Prune one network, once, and look at the result from outside; one process for each.

Nothing of Prunus' own proof is used: the original's tensors are multiplied by `result.mask` here,
and both networks are run in float64 on an input that Prunus has not seen. What is known is written
to a file after every step, so that a process that is killed leaves what it had found.
"""

import hashlib
import itertools
import json
import os
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import prunus
from prunus.errors import PrunusError
from prunus.types import Example
from zoos import networks
from zoos.compare import call, compared, difference, finite, outputs, redrawn, text

SECOND = 0.25
"""Share of the units of the small network that the second pruning removes."""


class Notes:
    """What is known of a row so far, kept on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.row: dict[str, Any] = {}

    def __call__(self, **fields: Any) -> None:
        """Add fields, and write everything down."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self.row |= fields | {"peak_gb": round(peak, 2)}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.row), encoding="utf-8")
        new.replace(self.path)


def examine(zoo: str, name: str, ratio: float, note: Notes) -> None:
    """Build, prune, check, prune again and train one network."""
    note(stage="build")
    torch.manual_seed(0)
    model, example = networks(zoo)[name]()
    model.eval()
    alive = enliven(model, example)
    before, dense = fingerprint(model), parameters(model)
    note(stage="trace", params=dense, alive=alive)
    prunus.space.trace(nn.Linear(2, 2), torch.ones(1, 2))  # what is imported late is not timed
    begin = time.perf_counter()
    try:
        space = prunus.space.trace(model, example)
        frozen = [{"channels": f.channels, "reason": f.reason} for f in space.frozen]
        note(trace_s=time.perf_counter() - begin, groups=len(space.groups))
        note(stage="prune", unknown=dict(space.unknown), frozen=by_reason(frozen))
        del space
        begin = time.perf_counter()
        result = pruned(model, example, ratio)
    except Exception as error:
        note(status="refused" if refuses(error) else "crash", error=text(error))
        if "exact=False" in str(error):
            with suppress(Exception):
                result = pruned(model, example, ratio, exact=False)
                note(remaining=parameters(result.model) / dense)
        return
    report = result.report
    macs, macs_left = report.costs["macs"]
    note(
        stage="check",
        prune_s=time.perf_counter() - begin,
        form=report.form,
        frozen=by_reason(report.frozen),
        params_ratio=parameters(result.model) / dense,
        macs_ratio=macs_left / macs if macs else 1.0,
    )
    changed = fingerprint(model) != before
    note(**compared(model, result.model, result.mask, example, seed=1))
    if changed:
        note(status="wrong", error="the original was changed")
    note(stage="second")
    note(second=second(result.model, example))
    note(stage="train")
    note(**trained(model, result.model, example))
    note(stage="done")


def pruned(
    model: nn.Module, example: Example, ratio: float, *, exact: bool = True
) -> prunus.Result:
    method = prunus.methods.l1_filter(coupled=True, round_to=1)
    target = prunus.Target(sparsity=ratio)
    return prunus.prune(model, example, method=method, target=target, exact=exact)


def second(model: nn.Module, example: Example) -> str:
    """Prune a result once more and return what came of it."""
    try:
        result = pruned(model, example, SECOND)
    except Exception as error:
        return text(error)
    found = compared(model, result.model, result.mask, example, seed=2)
    return found["error"] or found["status"]


def enliven(model: nn.Module, example: Example) -> float | None:
    """Redraw the weights, again where the outputs do not follow the input.

    A network that answers every input alike would hide a wrong result.

    Returns:
        The difference between the outputs for two inputs; None where a fresh input does not fit.
    """
    change = 0.0
    for seed in range(8):
        randomise(model, seed)
        settle(model, example)
        try:
            answers = [outputs(model, x) for x in (example, redrawn(example, 3, torch.float32))]
        except Exception:
            return None
        if all(map(finite, answers)):
            change = difference(*answers)
            if change > 1e-3:
                break
    return change


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Redraw all weights and statistics, so that nothing is hidden by zeros or dies out.

    Matrices keep their size, but are at least as large as passes a signal on; vectors get some
    spread.
    """
    generator = torch.Generator().manual_seed(seed)
    scales = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
    }
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point() or not parameter.numel():
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if name in scales:
            parameter.copy_(1 + 0.1 * noise)
        elif parameter.ndim == 1 and name.endswith("bias"):
            parameter.copy_(0.1 * noise)
        elif parameter.ndim < 2:  # a temperature, a decay, the scale of a layer
            parameter.add_(0.1 * noise)
        else:
            size = float(parameter.float().square().mean().sqrt())
            parameter.copy_(noise * max(size, parameter[0].numel() ** -0.5))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))


@torch.no_grad()
def settle(model: nn.Module, example: Example) -> None:
    """Scale the running statistics to what each batch norm gets, so that no signal dies out."""

    def scale(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        hooks.pop(module).remove()  # a layer that is used twice keeps the first
        mean, variance = module.running_mean, module.running_var
        x = inputs[0]
        if x.ndim > 1 and x.shape[1] == len(mean):
            found, level = torch.var_mean(x, [d for d in range(x.ndim) if d != 1], correction=0)
            varied = found > 1e-10
            mean.copy_(torch.where(varied, level + found.sqrt() * mean, mean))
            variance.copy_(torch.where(varied, found * variance, variance))

    hooks = {
        module: module.register_forward_pre_hook(scale)
        for module in model.modules()
        if isinstance(getattr(module, "running_mean", None), Tensor)
    }
    outputs(model, example)
    for hook in hooks.values():
        hook.remove()


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def fingerprint(model: nn.Module) -> dict[str, Any]:
    """Return what must not change: values of all tensors, identity of parameters, and modes."""
    tensors = dict(model.named_buffers()) | model.state_dict()
    values = {
        name: hashlib.blake2b(
            tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        ).hexdigest()
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor) and tensor.numel()
    }
    return {
        "values": values,
        "objects": {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)},
        "modes": [module.training for module in model.modules()],
        "gradients": [(p.requires_grad, p.grad is None) for p in model.parameters()],
    }


def trained(dense: nn.Module, small: nn.Module, example: Example) -> dict[str, Any]:
    """Take the gradient of the result as the original lets it be taken.

    Train mode and a batch of two where the original takes both; a detector without targets is run
    in eval mode.
    """
    for training, batch in itertools.product((True, False), (2, 1)):
        given = tree_map(lambda x, n=batch: repeated(x, n), example)
        try:
            with torch.no_grad():
                shapes = [x.shape for x in call(dense.train(training), given)]
        except Exception:
            continue
        break
    else:
        return {"trained": "the original cannot be run"}
    how = {"trained_in": f"{'train' if training else 'eval'} mode, batch of {batch}"}
    small.zero_grad()
    try:
        found = call(small.train(training), given)
        if [x.shape for x in found] != shapes:
            return how | {"trained": f"shapes are {[tuple(x.shape) for x in found]}"}
        losses = [x.float().square().sum() for x in found if x.requires_grad]
        if not losses:
            return how | {"trained": "no output has a gradient"}
        torch.stack(losses).sum().backward()
    except Exception as error:
        return how | {"trained": text(error)}
    gradients = [p.grad for p in small.parameters() if p.grad is not None]
    finite = sum(bool(gradient.isfinite().all()) for gradient in gradients)
    return how | {"trained": "yes" if finite else "no gradient is finite"}


def repeated(x: Any, times: int) -> Any:
    if not isinstance(x, Tensor) or x.ndim == 0:
        return x
    return torch.cat([x] * times)


def by_reason(frozen: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the five reasons that freeze most channels, with how many."""
    counts: Counter[str] = Counter()
    for entry in frozen:
        counts[entry["reason"]] += entry["channels"]
    return dict(counts.most_common(5))


def refuses(error: Exception) -> bool:
    """Tell whether Prunus itself declined, rather than failed."""
    if isinstance(error, PrunusError):
        return True
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = Path(prunus.__file__).parent in Path(raised_in).parents
    return ours and isinstance(error, ValueError | TypeError)


def main(
    zoo: str,
    name: str,
    ratio: str,
    file: str,
    limit: str,
    log: str,
    work: Callable[[str, str, float, Notes], None] = examine,
) -> None:
    """Fill `file` with what is found; a failure of this script itself is a crash too.

    Args:
        zoo: Which of the zoos.
        name: The network.
        ratio: Share of the units removed.
        file: Where the row goes, as JSON.
        limit: Bytes of memory that may be taken.
        log: Where anything printed goes.
        work: What is done.
    """
    with open(log, "w", encoding="utf-8") as printed:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(printed.fileno(), stream.fileno())
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
    torch.set_num_threads(1)
    note = Notes(Path(file))
    try:
        work(zoo, name, float(ratio), note)
    except Exception as error:
        traceback.print_exc()
        if "status" not in note.row:
            note(status="crash", error=text(error))
