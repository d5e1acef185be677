import pytest
import torch
from torch import nn

from prunus.recovery import recalibrate_batch_norm


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.BatchNorm1d(3))


def test_statistics_are_plain_averages_over_batches():
    model = network()
    model.train()
    model[3].eval()
    batches = [torch.randn(6, 4) for _ in range(3)]
    assert recalibrate_batch_norm(model, batches, batches=2) == 2
    with torch.no_grad():
        outputs = [model[0](batch) for batch in batches[:2]]
    expected = sum(output.mean(0) for output in outputs) / 2
    torch.testing.assert_close(model[1].running_mean, expected)
    variance = sum(output.var(0) for output in outputs) / 2
    torch.testing.assert_close(model[1].running_var, variance)
    # Dropout was off, so the second norm saw centred values.
    torch.testing.assert_close(model[3].running_mean, torch.zeros(3), atol=1e-6, rtol=0)
    assert [module.training for module in model] == [True, True, True, False]
    assert (model[1].momentum, model[3].momentum) == (0.1, 0.1)


def test_a_failure_puts_the_statistics_back():
    model = network()
    model[1].running_mean.fill_(7)

    def batches():
        yield torch.randn(6, 4)
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        recalibrate_batch_norm(model, batches())
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate_batch_norm(model, [])
    assert model[1].running_mean.eq(7).all()
    assert model[1].momentum == 0.1
    assert model[1].training


def test_a_model_without_batch_norm_has_nothing_to_do():
    assert recalibrate_batch_norm(nn.Linear(2, 2), [torch.randn(1, 2)]) == 0
