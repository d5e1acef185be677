"""A time model fitted to what clients measure: how long sparse products take, layer by layer."""

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from prunus.errors import TrainingError, WireError
from prunus.federated.packet import Packet
from prunus.federated.samples import FirstBatches
from prunus.federated.task import Task
from prunus.files import read_json, write_json
from prunus.selectors import TIME_MODELS, TimeModel, fit_time_model
from prunus.training import Data, fit

if TYPE_CHECKING:
    from prunus.federated.exchange import Exchange

_FEW = 0.1  # density at which a layer is measured beside its whole
_REPEATS = 3
_PASSES = 3  # a backward pass takes two forward ones
_LEAST = 1e-6  # seconds of a step whatever is kept, where the fit finds none
_NOISE = 1e-9  # of the constant: what the fit leaves of no difference
_MOST = 1e6  # seconds of a round: more cannot be meant
_DIGITS = 64  # bytes of a number in a measurement, at most


def measure(task: Task, data: Data) -> Packet:
    """Time a round's products with sparse weights, at several densities, and all else that it does.

    Clients train dense kernels times a mask, which take as long whatever is kept. What is timed is
    therefore what a layer would take as a sparse matrix, forward and twice backward, with all
    weights, with few of each layer alone, and with few of all. To each comes what a round takes on
    this device beyond its dense products. The first time is not counted; of the others the median
    of three is. The task's network is changed.
    """
    densities = schedule(len(task.layers))
    batches, whole = FirstBatches(data, task.local_steps), densities[0]
    dense = _median(partial(_multiplied, task, whole, sparse=False))
    around = _median(partial(_trained, task, batches)) - dense
    seconds = [_median(partial(_multiplied, task, row)) for row in densities]
    told = {"densities": densities, "seconds": [max(0.0, around) + x for x in seconds]}
    return Packet({"kind": "measured"}, {"times": json.dumps(told).encode()})


def schedule(layers: int) -> list[list[float]]:
    """Return the densities of the layers in each measurement, enough to tell all layers apart."""
    alone = [[_FEW if k == layer else 1.0 for k in range(layers)] for layer in range(layers)]
    return [[1.0] * layers, *alone, [_FEW] * layers]


def fitted(task: Task, answers: Sequence[Packet]) -> TimeModel:
    """Return the model of the median client: it is fitted to the medians of what clients measured.

    Raises:
        TrainingError: No answer is a measurement, or none says that fewer weights take less time.
    """
    found, reasons = [], []
    for answer in answers:
        try:
            found.append(_read(answer, len(task.layers)))
        except WireError as error:
            reasons.append(str(error))
    if not found:
        raise TrainingError(
            f"no client has measured its time: {'; '.join(reasons) or 'none asked'}"
        )
    seconds = [median(of_all) for of_all in zip(*found, strict=True)]
    constant, dense = fit_time_model(schedule(len(task.layers)), seconds)
    if max(dense) < _NOISE * constant:
        raise TrainingError(
            "by what clients measured no layer takes less time with fewer weights; name a time "
            f"model instead, time = {' or '.join(map(repr, TIME_MODELS))}."
        )
    steps = task.local_steps
    compute = {g.name: x / steps / g.size for g, x in zip(task.layers, dense, strict=True)}
    return TimeModel(constant=max(_LEAST, constant / steps), compute=compute)


def kept_or_measured(task: Task, exchange: "Exchange", path: Path) -> TimeModel:
    """Return the time model of a run: that of its file, or else measured now and written there.

    Args:
        task: What participants do.
        exchange: Carries the question to as many clients as take part in a round.
        path: The file, so that a run that was stopped goes on with the same model.

    Raises:
        TrainingError: No client has measured.
    """
    if not path.exists():
        some = exchange.clients()[: task.recipe.clients.per_round]
        answers = exchange.ask({address: Packet({"kind": "measure"}) for address in some})
        told = [answer for answer in answers.values() if not isinstance(answer, str)]
        write_json(path, asdict(fitted(task, told)))
    held: Mapping[str, Any] = read_json(path)
    return TimeModel(**held)


def _median(seconds: Callable[[], float]) -> float:
    seconds()
    return median(seconds() for _ in range(_REPEATS))


def _trained(task: Task, batches: FirstBatches) -> float:
    """Return the seconds of a client's local steps."""
    length = f"{task.local_steps}it"
    settings = task.train.model_copy(
        update={"length": length, "eval_every": length, "checkpoint_every": length}
    )
    begin = time.perf_counter()
    fit(task.model, batches, settings)
    return time.perf_counter() - begin


def _multiplied(task: Task, densities: Sequence[float], *, sparse: bool = True) -> float:
    """Return the seconds of the products of all layers in a client's local steps.

    A layer is a matrix (out, weights / out) in compressed rows, with random weights; a convolution
    takes its inputs, (weights / out, positions * batch), as already unfolded.
    """
    chance, seconds = torch.Generator().manual_seed(0), 0.0
    for layer, density in zip(task.layers, densities, strict=True):
        rows = task.layout.shapes[layer.name][0]
        columns, samples = layer.size // rows, max(1, layer.positions) * task.time.samples
        weight = torch.rand(rows, columns, generator=chance)
        weight *= torch.rand(rows, columns, generator=chance) < density
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)  # it is in beta state
            matrix = weight.to_sparse_csr() if sparse else weight
        inputs = torch.rand(columns, samples, generator=chance)
        begin = time.perf_counter()
        matrix @ inputs
        seconds += time.perf_counter() - begin
    return _PASSES * task.local_steps * seconds


def _read(answer: Packet, layers: int) -> list[float]:
    """Return the seconds of a measurement, which may come from anyone.

    Raises:
        WireError: It is none.
    """
    expected, told = schedule(layers), answer.part("times")
    if len(told) > (most := _DIGITS * (layers + 1) * len(expected)):
        raise WireError(f"a measurement has at most {most} bytes, got {len(told)}.")
    try:
        found = json.loads(told)
        seconds = [float(x) for x in found["seconds"]]
        densities = found["densities"]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise WireError(f"a measurement cannot be read ({error}).") from error
    if densities != expected or len(seconds) != len(expected):
        raise WireError(f"a measurement must have {len(expected)} times, got {len(seconds)}.")
    if not all(0 < x < _MOST for x in seconds):
        raise WireError(f"a measured time must be above 0 s and below {_MOST:g} s.")
    return seconds
