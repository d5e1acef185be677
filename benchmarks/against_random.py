"""Whether what each method keeps is worth more than what chance keeps, at equal cost.

A convolutional network learns the embedded Fashion-MNIST images, each method prunes it in its own
way, and a random choice of as many units in each layer is put in the place of the method's own;
both then recover for the same few steps. The table is made by `learns.py`, the claims are asserted
by `tests/methods/test_learns.py`.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from statistics import mean
from typing import Any, TypeAlias

import torch
from torch import nn

from prunus import Calibration, Pruner, Target, zoo
from prunus.criteria import Evidence, Random
from prunus.methods import METHODS, Method
from prunus.methods.composition import composition
from prunus.recovery import Distillation, recalibrate_batch_norm, shuffled
from prunus.selectors import Decision, TopK
from prunus.space import Granularity, Space, UnitGroup
from prunus.training import Data, TrainSettings, evaluate, fit
from prunus.types import Keep, Scores

Row: TypeAlias = dict[str, Any]
Pair: TypeAlias = list[float]
"""Accuracy when the mask is final, and after the recovery."""

SEEDS = (0, 1, 2)
STEPS, RECOVERY = 440, 44  # four epochs, and four tenths of one
FILTERS, WEIGHTS = Target(macs=0.5), Target(sparsity=0.95)
DRAWS = 3  # of a random choice, where it takes no training of its own

# Rate x decay x steps is about 0.7, as in trainings of a hundred epochs: what a network does not
# need has shrunk by then, which is what most criteria go by.
TRAIN = TrainSettings(
    length=f"{STEPS}it", lr=0.3, weight_decay=5e-3, schedule="cosine", eval_every="100ep"
)
RECOVER = TrainSettings(
    length=f"{RECOVERY}it", lr=0.05, weight_decay=5e-4, schedule="cosine", eval_every="100ep"
)
EXAMPLE = torch.zeros(1, 1, 28, 28)

LAST = f"{STEPS}it"
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"round_to": 1} for name in ("l1_filter", "taylor", "fpgm", "hrank", "apoz")},
    **{name: {"round_to": 1} for name in ("thinet", "regression", "distil")},
    "try_and_learn": {"updates": 20, "trial_steps": 2, "settle_steps": 20, "tolerance": 50.0},
    "gradual": {"begin": "110it", "end": LAST, "every": "22it"},
    "han": {"begin": "110it", "end": LAST, "every": "55it"},
    "drop": {"begin": "110it", "end": LAST, "every": "10it"},
    "movement": {"begin": "110it", "end": LAST, "every": "10it"},
    "dsd": {"begin": "220it", "end": "330it"},
    "gibbs": {"end": LAST},
    "soft_filter": {"end": LAST, "every": "1ep"},
    "slimming": {"begin": LAST, "strength": 1e-3},
    "group_lasso": {"begin": LAST},
    "gate": {"begin": LAST},
    "l0": {"begin": LAST},
    "sss": {"begin": LAST, "unit": "channel", "strength": 3e-3},
    "set": {"end": "330it", "every": "22it"},
    "rigl": {"end": "330it", "every": "22it"},
    "lottery": {"training": LAST, "rounds": 3},
}
"""Settings under which a method runs its course in so short a training; else its defaults."""

SPARSE_FROM_THE_START = ("snip", "grasp", "synflow", "set", "rigl", "lottery")


@dataclass(frozen=True)
class Claim:
    """By what a method is judged.

    Args:
        moment: 0 for the accuracy when the mask is final, 1 for that after the recovery.
        over: The arm that it must beat.
        text: Both in words.
    """

    moment: int
    over: str
    text: str


CHOICE = Claim(0, "random", "at once, over as many random filters in each layer")
RECOVERED = Claim(1, "random", "after the recovery, over as many random weights in each layer")
FROM_THE_START = Claim(
    1, "from the start", "after the recovery, over random weights, as many everywhere, held as long"
)
DENSE = Claim(0, "random", "at the end of training, over random weights left out for as long")
CLAIMS = (CHOICE, RECOVERED, FROM_THE_START, DENSE)

_BEHIND = "Too little for three seeds to tell."
NOT_BETTER = {"snip": _BEHIND, "grasp": _BEHIND}
"""Method -> why it is not claimed to be better than chance here."""


def claim_of(name: str) -> Claim:
    """Return by what a method is judged.

    Filters by the choice itself: in so small a network a few steps make up for any (which is what
    Liu et al., ICLR 2019, found at scale). What is sparse from the first step against the same of
    random pruning: with the method's own number of weights in each layer chance does as well, since
    it is the numbers that such methods find (Su et al., NeurIPS 2020; Frankle et al., ICLR 2021).
    What ends dense has nothing to recover.
    """
    method, _ = build(name)
    if name in SPARSE_FROM_THE_START:
        return FROM_THE_START
    if method.temporary:
        return DENSE
    return CHOICE if method.structured else RECOVERED


@dataclass(frozen=True)
class Given:
    """A selector whose decision is there already."""

    keep: Keep

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Return it."""
        return Decision(self.keep)


def given(granularity: Granularity, keep: Keep) -> Method:
    return Method(name="given", granularity=granularity, criterion=None, selector=Given(keep))


def even(granularity: Granularity) -> Method:
    """Return random pruning proper: the same share of every layer."""
    return Method(
        name="even",
        granularity=granularity,
        criterion=Random(),
        selector=TopK(scope="layer", round_to=1),
    )


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 10)),
        )


@cache
def data(seed: int) -> Data:
    return zoo.dataset("fashion-mnist-embedded", batch_size=64, seed=seed)


@cache
def calibration(seed: int) -> Calibration:
    batches = list(islice(data(seed).train_batches(0), 10))
    return Calibration(batches, validation=list(islice(data(seed).eval_batches("val"), 2)))


@cache
def weights(seed: int) -> Mapping[str, torch.Tensor]:
    """Return those of the dense network after its training."""
    model = network(seed)
    fit(model, data(seed), TRAIN, seed=seed)
    return model.state_dict()


def dense(seed: int) -> nn.Module:
    model = network(seed)
    model.load_state_dict(weights(seed))
    return model


@cache
def dense_pair(seed: int) -> Pair:
    """Return how good the dense network is, and how good after as many more steps."""
    model = dense(seed)
    once = evaluate(model, data(seed)).accuracy
    fit(model, data(seed), RECOVER, seed=seed)
    return [once, evaluate(model, data(seed)).accuracy]


@dataclass(frozen=True)
class Arm:
    """A network pruned and recovered."""

    accuracy: Pair
    keep: Keep
    density: float
    macs: float


def arm(method: Method, target: Target | None, seed: int, *, training: bool, draw: int = 0) -> Arm:
    """Prune by a method and recover.

    Args:
        method: The method.
        target: How small.
        seed: Of network, data, training and the method's choices.
        training: Whether the pruner is there from the first step of training, or prunes the network
            that was trained without it.
        draw: Number of a random choice.
    """
    model = network(seed) if training else dense(seed)
    images = data(seed)
    pruner = Pruner(
        model,
        EXAMPLE,
        method,
        target=target,
        steps_per_epoch=images.steps_per_epoch,
        calibration=calibration(seed),
        seed=seed + 1000 * draw,
    )
    if training:
        fit(model, images, TRAIN, seed=seed, hook=pruner)
    result = pruner.finish()
    small = result.model
    if method.recalibrates:
        recalibrate_batch_norm(small, (x for x, _ in images.train_batches(0)), batches=20)
    once = evaluate(small, images).accuracy
    soft, hold = method.distillation, None
    if not method.structured:
        hold = Pruner(small, EXAMPLE, given(method.granularity, pruner.keep))
    fit(
        small,
        images,
        RECOVER,
        seed=seed,
        hook=hold,
        objective=None if soft is None else Distillation(dense(seed), soft),
    )
    kept = sum(int(keep.sum()) for keep in pruner.keep.values())
    macs, left = result.report.costs["macs"]
    return Arm(
        [once, evaluate(small, images).accuracy],
        pruner.keep,
        kept / sum(keep.numel() for keep in pruner.keep.values()),
        left / macs,
    )


_EVEN: dict[tuple[Any, ...], Pair] = {}


def even_pair(method: Method, target: Target | None, seed: int, *, training: bool) -> Pair:
    """Return how good random pruning proper is; made once for all methods of the same units."""
    key = (method.granularity, target, seed, training)
    if key not in _EVEN:
        chance = even(method.granularity)
        draws = range(1 if training else DRAWS)
        _EVEN[key] = average(
            arm(chance, target, seed, training=training, draw=k).accuracy for k in draws
        )
    return _EVEN[key]


def average(pairs: Iterable[Pair]) -> Pair:
    return [mean(values) for values in zip(*pairs, strict=True)]


def build(name: str) -> tuple[Method, Target | None]:
    """Return a method as it is tried here, and its target."""
    method = METHODS[name](**SETTINGS.get(name, {}))
    if method.temporary:
        return method, None
    return method, FILTERS if method.structured else WEIGHTS


def compare(name: str, seed: int, *, further: bool = True) -> Row:
    """Prune by a method and by chance.

    Args:
        name: Of the method.
        seed: Of all that is drawn.
        further: Whether to try the two other controls too.

    Returns:
        "own", the method's pair of accuracies; "random", that of as many units in each layer chosen
        by chance when the method's own choice is final; "even", of the same cost with the same
        share of each layer; "from the start", of the latter when it holds from the first step of
        training. "dense" is the network that is not pruned. For a method that ends dense, "random"
        is the method with a random choice in between.
    """
    method, target = build(name)
    sparse = name in SPARSE_FROM_THE_START
    begin = time.process_time()
    weights(seed)  # shared: not part of the seconds
    shared = time.process_time()
    own = arm(method, target, seed, training=method.during_training or sparse)
    row: Row = {
        "method": name,
        "seed": seed,
        "made of": made_of(name),
        "units": "filters" if method.structured else "weights",
        "seconds": round(time.process_time() - shared, 2),
        "macs": own.macs,
        "density": own.density,
        "dense": dense_pair(seed),
        "own": own.accuracy,
    }
    if method.temporary:
        other = arm(replace(method, criterion=Random()), None, seed, training=True)
        return row | {"random": other.accuracy, "random macs": other.macs}
    others = [
        arm(
            given(method.granularity, shuffled(own.keep, "layer", seed + 1000 * draw)),
            target,
            seed,
            training=sparse,
        )
        for draw in range(1, 1 + (1 if sparse else DRAWS))
    ]
    row |= {
        "random": average(other.accuracy for other in others),
        "random macs": others[0].macs,
        "random density": others[0].density,
    }
    if further:
        row["from the start"] = even_pair(method, target, seed, training=True)
    if further and not sparse:
        row["even"] = even_pair(method, target, seed, training=False)
    return row | {"total seconds": round(time.process_time() - begin, 2)}


def gain(row: Row) -> float:
    """Return by how much the method is better than its control, in [-1, 1]."""
    claim = claim_of(row["method"])
    return float(row["own"][claim.moment] - row[claim.over][claim.moment])


def made_of(name: str) -> str:
    """Return all that a row depends on, so that one made otherwise is not taken for it."""
    method, target = build(name)
    return f"{composition(method)} {target} {STEPS} {RECOVERY} {DRAWS} {TRAIN} {RECOVER}"
