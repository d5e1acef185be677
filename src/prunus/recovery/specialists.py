"""Specialists: networks for classes that a generalist confuses, and one answer from all of them.

A specialist knows the classes of its cluster, and all others as one more class, the dustbin, which
comes last.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 deep
learning workshop, arXiv:1503.02531, section 5.
Deviations: clusters are found by Lloyd's k-means, in memory, instead of an online one; the answer
is found by fixed-point steps, which need no learning rate, instead of plain gradient descent.
"""

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

Classes = Sequence[int]


def cluster_classes(
    probabilities: Tensor, count: int, *, size: int | None = None, seed: int = 0
) -> list[tuple[int, ...]]:
    """Return clusters of classes that are often predicted together; no labels are needed.

    The columns of the covariance matrix of the predictions are clustered by k-means.

    Args:
        probabilities: Of the generalist, (samples, classes).
        count: Number of clusters.
        size: Give each cluster the so many classes nearest its centre, so that clusters overlap,
            as the paper's do; None for the clusters of k-means, which are disjoint.
        seed: Of the first centres.

    Raises:
        ValueError: count or size is out of range, or a cluster was left empty.
    """
    # Imported here because it takes long, and only this function needs it.
    from scipy.cluster.vq import ClusterError, kmeans2

    classes = probabilities.shape[1]
    for name, value in {"count": count, "size": 1 if size is None else size}.items():
        if not 1 <= value < classes:
            raise ValueError(f"{name} must be from 1 to {classes - 1}, got {value}.")
    columns = torch.cov(probabilities.double().cpu().T)
    try:
        centres, nearest = kmeans2(
            columns.numpy(), count, iter=100, minit="++", missing="raise", seed=seed
        )
    except ClusterError as error:
        raise ValueError(
            f"k-means left one of {count} clusters empty; ask for fewer, or take another seed."
        ) from error
    if size is None:
        members = [torch.from_numpy(nearest == number).nonzero()[:, 0] for number in range(count)]
    else:
        apart = torch.cdist(torch.from_numpy(centres), columns)
        members = list(apart.argsort(dim=1, stable=True)[:, :size].sort(1).values)
    return [tuple(cluster.tolist()) for cluster in members]


def specialist(generalist: nn.Module, classes: Classes, classifier: str) -> nn.Module:
    """Return a copy of the generalist that tells `classes` apart from each other and the rest.

    The dustbin begins with the mean of the weights of the classes in it, and the log of their
    number in its bias: exactly their summed probability where their logits agree, else a bound from
    below.

    Args:
        generalist: Not changed.
        classes: The specialist's outputs, in this order.
        classifier: Name of the linear layer whose outputs are all classes, such as "fc".

    Raises:
        ValueError: The layer is not linear, or the classes are not some of its outputs.
    """
    network = deepcopy(generalist)
    layer = network.get_submodule(classifier)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"{classifier} must be an nn.Linear, got {type(layer).__name__}.")
    rest = _others(classes, layer.out_features)
    weight = layer.weight.detach()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
    dustbin = (bias[rest].mean() + math.log(len(rest)))[None]
    layer.weight = nn.Parameter(torch.cat([weight[list(classes)], weight[rest].mean(0)[None]]))
    layer.bias = nn.Parameter(torch.cat([bias[list(classes)], dustbin]))
    layer.out_features = len(layer.bias)
    return network


class Coarse(nn.Module):
    """A generalist that answers like a specialist, and can teach it.

    Args:
        generalist: Gives logits of all classes.
        classes: The specialist's.
        oversampled: How many times as often, against all others, the specialist's classes are among
            the samples it learns from.
    """

    def __init__(self, generalist: nn.Module, classes: Classes, oversampled: float = 1.0) -> None:
        super().__init__()
        self.generalist = generalist
        self._classes, self._log = list(classes), math.log(oversampled)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs to logits (batch, classes of the specialist and the dustbin)."""
        logits: Tensor = self.generalist(x)
        rest = _others(self._classes, logits.shape[1])
        dustbin = logits[:, rest].logsumexp(1, keepdim=True) - self._log
        return torch.cat([logits[:, self._classes], dustbin], 1)


@torch.no_grad()
def consult(
    general: Tensor,
    special: Sequence[Tensor],
    classes: Sequence[Classes],
    *,
    top: int = 1,
    tolerance: float = 1e-9,
) -> Tensor:
    """Return the distributions that agree best with the generalist and the specialists asked.

    For each sample, the q that minimises KL(p_g || q) + sum of KL(p_m || q_m) over the specialists
    m that know one of its most probable classes, where q_m is q with the classes m does not know
    summed. The gradient in the logits of q is, with K specialists asked,

        (1 + K) q - p_g - sum of p_m, its dustbin shared among its classes in the proportions of q;

    each step subtracts 1 / (1 + K) of it from q. This is expectation maximisation: the sum falls
    with every step, and the distance to the one minimum by a factor of K / (1 + K) or less.

    Args:
        general: The generalist's probabilities, (samples, all classes).
        special: Each specialist's, (samples, its classes and the dustbin).
        classes: Each specialist's classes.
        top: A specialist is asked where it knows one of so many most probable classes.
        tolerance: Stop when no probability changes more.

    Returns:
        Probabilities (samples, all classes); those of the generalist where nobody is asked.

    Raises:
        ValueError: The shapes do not fit together.
    """
    knows = torch.zeros(len(classes), general.shape[1], dtype=torch.float64, device=general.device)
    fixed = general.double()
    dustbins = general.new_zeros(len(general), len(classes), dtype=torch.float64)
    best = general.topk(top, dim=1).indices
    asked = dustbins.clone()
    for m, (answer, known) in enumerate(zip(special, classes, strict=True)):
        if answer.shape != (len(general), len(known) + 1):
            raise ValueError(
                f"specialist {m} must give {len(known) + 1} probabilities for each of "
                f"{len(general)} samples, got shape {tuple(answer.shape)}."
            )
        knows[m, list(known)] = 1
        asked[:, m] = knows[m, best].amax(1)
        fixed = fixed.index_add(
            1,
            torch.tensor(known, device=general.device),
            answer[:, :-1].double() * asked[:, m, None],
        )
        dustbins[:, m] = answer[:, -1].double() * asked[:, m]
    unknown = 1 - knows
    voices = 1 + asked.sum(1, keepdim=True)
    q, change = general.double(), math.inf
    while change > tolerance:
        shares = dustbins / (q @ unknown.T).clamp_min(torch.finfo(torch.float64).tiny)
        previous, q = q, (fixed + q * (shares @ unknown)) / voices
        change = float((q - previous).abs().max())
    return q.to(general.dtype)


def _others(classes: Classes, count: int) -> list[int]:
    """Return the classes of the dustbin."""
    known = set(classes)
    rest = [number for number in range(count) if number not in known]
    if len(rest) != count - len(classes) or not 0 < len(known) < count:
        raise ValueError(
            f"classes must be some, not all, of {count} classes, each once, got {list(classes)}."
        )
    return rest
