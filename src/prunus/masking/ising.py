"""Samplers of binary masks from p(x) = exp(-beta H(x)) / Z, each for many units at once.

Source: Labach and Valaee, "A Framework for Neural Network Pruning Using Gibbs Distributions",
GLOBECOM 2020, arXiv:2006.04981. Fields are b = Q - w^2: a negative field keeps.
"""

import torch
from torch import Tensor


def quantile(values: Tensor, share: float) -> Tensor:
    """Return the `share` quantile of all values, with linear interpolation; a scalar."""
    flat = values.ravel()
    place = share * (flat.numel() - 1)
    below = int(place)
    low = flat.kthvalue(below + 1).values
    if below == place:
        return low
    return torch.lerp(low, flat.kthvalue(below + 2).values, place - below)


def independent(field: Tensor, beta: float, generator: torch.Generator) -> Tensor:
    """Sample x in {0, 1} with H = sum_i b_i x_i.

    Args:
        field: b, any shape.
        beta: The inverse temperature.
        generator: On the device of the field.

    Returns:
        bool, the shape of the field.
    """
    return _uniform(field, generator) < torch.sigmoid(-beta * field)


def coupled(field: Tensor, beta: float, coupling: float, generator: torch.Generator) -> Tensor:
    """Sample x in {-1, 1}^n exactly, with H = sum_i b_i x_i - c sum_{i != j} x_i x_j, for each row.

    The energy depends on the fields and on the number of ones only, so that the states need not be
    enumerated: the number is drawn first, from sums over all states that have it, then the sites
    one after the other. It costs n^2 instead of 2^n.

    Args:
        field: b, shape (rows, n).
        beta: The inverse temperature.
        coupling: c.
        generator: On the device of the field.

    Returns:
        bool, True for 1, shape (rows, n).
    """
    rows, n = field.shape
    up = -beta * field.float().T  # log weight of 1 at each site; that of -1 is its negative
    sums = [torch.full((rows, n + 1), -torch.inf, device=field.device)]
    sums[0][:, 0] = 0.0
    for site in up:  # sums[i][:, k]: log of the sum over states of the first i sites with k ones
        without = sums[-1] - site[:, None]
        with_one = sums[-1][:, :-1] + site[:, None]
        without[:, 1:] = torch.logaddexp(without[:, 1:], with_one)
        sums.append(without)
    total = 2.0 * torch.arange(n + 1, device=field.device) - n
    weights = torch.softmax(sums[n] + beta * coupling * total.square(), dim=1)
    ones = torch.multinomial(weights, 1, generator=generator)
    found = torch.zeros(rows, n, dtype=torch.bool, device=field.device)
    for k in reversed(range(n)):
        less = sums[k].gather(1, (ones - 1).clamp_min(0)) + up[k][:, None]
        chance = torch.exp(less - sums[k + 1].gather(1, ones))
        one = (_uniform(chance, generator) < chance) & (ones > 0)
        found[:, k : k + 1] = one
        ones = ones - one.long()
    return found


def chromatic(
    halves: tuple[Tensor, Tensor],
    start: Tensor,
    beta: float,
    coupling: float,
    sweeps: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Sample x in {-1, 1} by sweeps, where all sites of one half of a row meet all of the other.

    The conditional is P(x_i = 1 | other half) = sigmoid(-beta (b_i - c sum_j x_j)), as published,
    without the factor two of the textbook; sites of one half are independent given the other.

    Args:
        halves: The fields b of both, shapes (rows, n) and (rows, m).
        start: The sum over the second half from which the chain starts, shape (rows,).
        beta: The inverse temperature.
        coupling: c.
        sweeps: Updates of each half.
        generator: On the device of the fields.

    Returns:
        bool, True for 1, for both halves.
    """
    first, second = (-beta * half.float() for half in halves)
    pull = beta * coupling
    noise = torch.empty_like(first), torch.empty_like(second)
    other = start[:, None].float()
    x = y = torch.empty(0)
    for _ in range(sweeps):
        x = noise[0].uniform_(generator=generator) < torch.sigmoid(first + pull * other)
        other = 2.0 * x.sum(dim=1, keepdim=True) - x.shape[1]
        y = noise[1].uniform_(generator=generator) < torch.sigmoid(second + pull * other)
        other = 2.0 * y.sum(dim=1, keepdim=True) - y.shape[1]
    return x, y


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device)
