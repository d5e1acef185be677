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
from prunus.space import UnitGroup
from prunus.training import Data, fit

if TYPE_CHECKING:
    from prunus.federated.exchange import Exchange

_FEW = 0.1  # density at which a layer is measured beside its whole
_REPEATS = 3
_COLUMNS = 8192  # of a product that is timed, at most: a device may have little memory
_PASSES = 3  # a backward pass takes two forward ones
_LEAST = 1e-6  # seconds of a step whatever is kept, where the fit finds none
_SHARE = 0.01  # of a round that must fall with the weights
_MOST = 1e6  # seconds of a round: more cannot be meant
_DIGITS = 64  # bytes of a number in a measurement, at most


def measure(task: Task, data: Data) -> Packet:
    """Time a round's products with sparse weights, at two densities, and all else that it does.

    Clients train dense kernels times a mask, which take as long whatever is kept. What is timed is
    therefore what each layer would take as a sparse matrix, forward and twice backward, with all
    weights and with few, and what a round takes on this device beyond its dense products. The first
    time is not counted; of the others the median of three is. The task's network is changed.
    """
    densities, batches = schedule(len(task.layers)), FirstBatches(data, task.local_steps)
    around, products = _median(partial(_trained, task, batches)), []
    for layer in task.layers:
        around -= _median(partial(_multiplied, task, layer, 1.0, sparse=False))
        own = [_median(partial(_multiplied, task, layer, density)) for density in (1.0, _FEW)]
        products.append(fit_time_model([[1.0], [_FEW]], own))
    constant = max(0.0, around) + sum(least for least, _ in products)
    falls = [dense for _, (dense,) in products]
    seconds = [constant + sum(x * y for x, y in zip(row, falls, strict=True)) for row in densities]
    told = {"densities": densities, "seconds": seconds}
    return Packet({"kind": "measured"}, {"times": json.dumps(told).encode()})


def schedule(layers: int) -> list[list[float]]:
    """Return the densities of the layers in each measurement, enough to tell all layers apart."""
    alone = [[_FEW if k == layer else 1.0 for k in range(layers)] for layer in range(layers)]
    return [[1.0] * layers, *alone, [_FEW] * layers]


def fitted(task: Task, answers: Sequence[Packet]) -> TimeModel:
    """Return the model of the median client: it is fitted to the medians of what clients measured.

    Raises:
        TrainingError: No answer is a measurement, or fewer weights take as long.
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
    if sum(dense) < _SHARE * max(seconds):
        raise TrainingError(
            f"by what clients measured less than {_SHARE:.0%} of a round falls with the weights; "
            f"name a time model instead, time = {' or '.join(map(repr, TIME_MODELS))}."
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


def _multiplied(task: Task, layer: UnitGroup, density: float, *, sparse: bool = True) -> float:
    """Return the seconds of a layer's products in a client's local steps.

    The layer is a matrix (out, weights / out) in compressed rows, with random weights; a
    convolution takes its inputs, (weights / out, positions * batch), as already unfolded. Of many
    columns some are multiplied, and stand for all.
    """
    chance = torch.Generator().manual_seed(0)
    rows = task.layout.shapes[layer.name][0]
    columns, samples = layer.size // rows, max(1, layer.positions) * task.time.samples
    weight = torch.rand(rows, columns, generator=chance)
    weight *= torch.rand(rows, columns, generator=chance) < density
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)  # it is in beta state
        matrix = weight.to_sparse_csr() if sparse else weight
    inputs = torch.rand(columns, min(samples, _COLUMNS), generator=chance)
    begin = time.perf_counter()
    matrix @ inputs
    seconds = (time.perf_counter() - begin) * samples / inputs.shape[1]
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
