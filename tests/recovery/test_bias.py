import pytest
import torch
from torch import nn

from prunus.recovery import fix_bias, predict


def test_the_best_shift_by_hand():
    # Class 2 was never seen: its logit is 3 too low. The edges are 2, 4, 1 and 6.
    logits = torch.tensor(
        [[3.0, 0.0, 1.0], [0.0, 4.0, 0.0], [2.0, 0.0, 1.0], [6.0, 1.0, 0.0]],
    )
    labels = torch.tensor([2, 1, 2, 0])
    found = fix_bias(logits, labels, {2})
    assert (found.shift, found.before, found.after) == (3.0, 0.5, 0.0)
    # With the sample at 2 being of class 0, the step from 1 to 2 is the best.
    assert fix_bias(logits, torch.tensor([0, 1, 2, 0]), [2]).shift == 1.5


def test_a_step_without_another_end_is_entered_by_one_logit():
    logits = torch.tensor([[2.0, 0.0], [5.0, 0.0]])
    assert fix_bias(logits, torch.tensor([1, 1]), {1}).shift == 6.0
    assert fix_bias(logits, torch.tensor([1, 1]), {0}).shift == -6.0


def test_nothing_is_shifted_without_a_gain():
    logits, labels = torch.eye(3), torch.tensor([0, 1, 2])
    found = fix_bias(logits, labels, {1})
    assert (found.shift, found.before, found.after) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("classes", [{3}, {0, 4}])
def test_it_is_the_best_of_all_shifts(classes):
    random = torch.Generator().manual_seed(1)
    labels = torch.randint(5, (300,), generator=random)
    logits = torch.randn(300, 5, generator=random)
    logits[torch.arange(300), labels] += 4
    logits[:, list(classes)] -= 3.5
    found = fix_bias(logits, labels, classes)

    def error(shift):
        shifted = logits.clone()
        shifted[:, list(classes)] += shift
        return (shifted.argmax(1) != labels).double().mean().item()

    assert error(0) == found.before
    assert error(found.shift) == found.after
    assert found.after == min(error(shift) for shift in torch.linspace(-10, 10, 2001).tolist())
    assert found.after < 0.5 * found.before
    assert found.shift == pytest.approx(3.5, abs=0.7)


@pytest.mark.parametrize("classes", [(), (0, 1), (2,)])
def test_classes_that_cannot_be_shifted_are_refused(classes):
    with pytest.raises(ValueError, match="some, not all, of the 2 classes"):
        fix_bias(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), classes)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="at least one sample, got none"):
        fix_bias(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), {1})
    with pytest.raises(ValueError, match="at least one batch to predict, got none"):
        predict(nn.Linear(2, 2), [])


def test_predictions_are_those_of_evaluation_mode():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.9))
    batches = [(torch.randn(2, 3), torch.tensor([0, 1])), (torch.randn(1, 3), torch.tensor([3]))]
    logits, labels = predict(model, iter(batches))
    assert labels.tolist() == [0, 1, 3]
    torch.testing.assert_close(logits, model[0](torch.cat([inputs for inputs, _ in batches])))
    assert model[1].training and not logits.requires_grad
