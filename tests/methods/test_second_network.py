"""Every method on residual sums, depthwise layers and recurrence, trained as networks often are."""

import pytest
import torch
from torch import nn

from methods.test_conformance import DENSE_AGAIN, SHORT
from prunus import Calibration, Pruner, Target
from prunus.methods import METHODS
from prunus.space import Structured

STEPS = 11
READS_INPUTS = ("wanda", "sparsegpt")  # of layers called as modules, which gates of an LSTM are not

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
DATA = Calibration([(X, torch.tensor([0, 1, 2, 0]))])


class Mixed(nn.Module):
    """A residual sum with a depthwise layer inside, rows read by an LSTM, and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.widen = nn.Conv2d(12, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.narrow = nn.Conv2d(16, 12, 1)
        self.rows = nn.LSTM(12, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.narrow(torch.relu(self.depthwise(torch.relu(self.widen(x)))))
        found, _ = self.rows(x.mean(dim=3).transpose(1, 2))
        return self.head(found[:, -1])


@pytest.mark.filterwarnings("ignore::prunus.errors.DecisionWarning")  # a layer of one channel
@pytest.mark.parametrize("name", sorted(METHODS))
def test_it_trains_clipped_with_two_rates_and_accumulated_gradients(name):
    torch.manual_seed(0)
    model = Mixed()
    settings = SHORT.get(name, {}) | ({"skip": ("rows.*",)} if name in READS_INPUTS else {})
    method = METHODS[name](**settings)
    structured = isinstance(method.granularity, Structured)
    target = Target(params=0.6) if structured else Target(sparsity=0.6)
    if method.temporary:
        target = None
    pruner = Pruner(model, X, method, target=target, calibration=DATA)
    slow = [*model.stem.parameters(), *model.norm.parameters(), *model.widen.parameters()]
    fast = [p for p in model.parameters() if not any(p is other for other in slow)]
    optimizer = torch.optim.SGD(
        [{"params": fast, "lr": 0.05}, {"params": slow, "lr": 0.005}], momentum=0.9
    )
    parameters = dict(model.named_parameters())
    for step in range(STEPS):
        optimizer.zero_grad()
        for part in X.split(2):
            (model(part).square().mean() / 2).backward()
        penalty = pruner.penalty()
        if isinstance(penalty, torch.Tensor) and penalty.requires_grad:
            penalty.backward()
        settled = step >= STEPS - 1
        if settled:  # the schedule is over: no masked weight counts
            masked = [p.grad[~pruner.mask[n]] for n, p in parameters.items() if p.grad is not None]
            assert not torch.cat(masked).any()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        pruner.step(optimizer)
    mask = pruner.mask
    assert not any(p[~mask[n]].any() for n, p in parameters.items())
    report = pruner.finish(optimizer).report
    if name in DENSE_AGAIN:
        assert all(kept.all() for kept in mask.values())
        return
    assert not all(kept.all() for kept in mask.values())
    assert report.reached <= 0.75 or not structured
    assert report.verification is None or report.verification.passed
