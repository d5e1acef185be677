"""The agent of try-and-learn pruning: a policy over the filters of one layer, and its reward."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

_STAGES = (32, 64, 64, 64)
_HIDDEN = 24
_NARROW = 16


class Agent(nn.Module):
    """Reads a layer's weights and gives for each filter the logit of keeping it.

    Layers of more than 16 input channels are read as an image by four convolutions of 7 x 7, each
    followed by a max-pooling; two fully connected layers of 24 units and one of as many outputs as
    there are filters end it.

    Args:
        filters: The layer's weights, shape (filters, entries).
        inputs: How many input channels the layer has.
        start: The probability with which filters are kept at first.
        generator: Of the initial weights.
    """

    def __init__(
        self, filters: Tensor, inputs: int, *, start: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        state = filters.detach().float().cpu()
        state = (state - state.mean()) / state.std(correction=0).clamp_min(1e-8)
        self.register_buffer("state", state[None, None])
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            stages: list[nn.Module] = []
            for before, after in pairwise((1, *_STAGES)) if inputs > _NARROW else ():
                stages += [nn.Conv2d(before, after, 7, padding=3), nn.ReLU()]
                stages += [nn.MaxPool2d(2, ceil_mode=True)]
            self.read = nn.Sequential(*stages, nn.Flatten())
            self.decide = nn.Sequential(
                *(nn.Linear(self.read(self.state).shape[1], _HIDDEN), nn.ReLU()),
                *(nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU()),
                nn.Linear(_HIDDEN, len(filters)),
            )
            for parameter in self.parameters():
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
                scale = math.sqrt(2 / fan_in) if fan_in else 0.0
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            last = self.decide[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.01)  # all filters alike at first
            last.bias.fill_(math.log(start / (1 - start)))

    def forward(self) -> Tensor:
        """Return the logits, shape (filters,)."""
        logits: Tensor = self.decide(self.read(self.state))[0]
        return logits


def reward(filters: int, kept: int, baseline: float, found: float, tolerance: float) -> float:
    """Return psi * phi: how well accuracy is held, times how much goes.

    psi = (b - (p* - p)) / b is at most 1 unless pruning helps, and negative where the drop exceeds
    the tolerance; phi = log(N / C). Source: Huang et al., WACV 2018, arXiv:1801.07365, section 3.

    Args:
        filters: N, of the layer.
        kept: C, at least 1.
        baseline: p*, in percent.
        found: p, in percent.
        tolerance: b, the drop allowed, in points.
    """
    return (tolerance - (baseline - found)) / tolerance * math.log(filters / kept)


def normalised(rewards: Tensor) -> Tensor:
    """Return the rewards less their mean, over their deviation; zeros where all are alike."""
    apart = rewards - rewards.mean()
    deviation = apart.square().mean().sqrt()
    return apart / deviation if deviation > 1e-12 else torch.zeros_like(rewards)


def surrogate(logits: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
    """Return what is to be minimised; its gradient is -sum_s weights_s * grad log pi(action_s).

    Args:
        logits: Of keeping each filter, shape (filters,).
        actions: Decisions that were drawn, 1 = kept, shape (samples, filters).
        weights: What each is worth, shape (samples,).
    """
    chosen = torch.distributions.Bernoulli(logits=logits).log_prob(actions)  # type: ignore[no-untyped-call]
    total: Tensor = (weights * chosen.sum(dim=1)).sum()
    return -total
