import pytest
import torch
from torch import nn

from prunus.recovery import rewind, snapshot


def test_kept_weights_go_back_and_removed_ones_are_zero():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = snapshot(model)
    original = before["0.weight"].clone()
    parameter = model[0].weight
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(1)
    kept = torch.tensor([[True, False], [True, True]])

    rewind(model, before, {"0.weight": kept})

    assert model[0].weight is parameter
    assert torch.equal(model[0].weight.data, original * kept)
    assert torch.equal(model[0].bias.data, before["0.bias"])
    assert torch.equal(model[1].running_mean, torch.zeros(2))
    assert torch.equal(before["0.weight"], original)


def test_what_does_not_fit_is_refused_and_nothing_changed():
    model = nn.Linear(2, 2)
    before = snapshot(model)
    with pytest.raises(ValueError, match="extra"):
        rewind(model, {**before, "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"weight must have shape \(2, 2\)"):
        rewind(
            model, {name: value + 1 for name, value in before.items()}, {"weight": torch.ones(2)}
        )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
