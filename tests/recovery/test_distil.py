import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from prunus.recovery import Distillation, SoftTargets
from prunus.training import ArrayData, TrainSettings, fit


def logits(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=random)


def gradient(soft, z, answers, labels=None):
    z = z.clone().requires_grad_()
    labels = torch.zeros(len(z), dtype=torch.long) if labels is None else labels
    soft.loss(z, answers, labels).backward()
    return z.grad


class Sum(nn.Module):
    """Reads two inputs and answers for each of several positions."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv1d(2, 3, 1)

    def forward(self, a, b):
        return self.layer(a + b)


def test_several_inputs_and_positions_that_do_not_count():
    teacher, student = Sum(0), Sum(1)
    given = torch.randn(2, 2, 5), torch.randn(2, 2, 5)
    labels = torch.randint(3, (2, 5))
    labels[:, 3:] = -100
    objective = Distillation(teacher, SoftTargets(temperature=2.0, hard_weight=0.3))
    found = objective(student, given, labels)
    cut = tuple(x[..., :3] for x in given)
    assert torch.allclose(found, objective(student, cut, labels[:, :3]))


@pytest.mark.parametrize("temperature", [4, math.inf])
def test_without_a_weight_labels_may_be_anything(temperature):
    z, v = logits(4, 3), logits(4, 3, seed=1)
    soft = SoftTargets(temperature=temperature, hard_weight=0)
    expected = soft.loss(z, [v], torch.tensor([0, 2, 1, 2]))
    assert soft.loss(z, [v], torch.tensor([0, -100, 1, 77])) == expected
    assert soft.loss(z, [v], torch.full((4,), -100)) == expected


@pytest.mark.parametrize("temperature", [0.5, 1, 4, 20])
def test_the_gradient_is_that_of_the_paper(temperature):
    z, v = logits(3, 5), logits(3, 5, seed=1)
    found = gradient(SoftTargets(temperature=temperature, hard_weight=0), z, [v])
    q, p = (z / temperature).softmax(1), (v / temperature).softmax(1)
    # of the sum over the batch; the loss is its mean
    torch.testing.assert_close(3 * found, temperature**2 * (q - p) / temperature)


def test_at_high_temperatures_it_is_the_matching_of_logits():
    z, v = logits(500, 5), logits(500, 5, seed=1)
    z, v = z - z.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    apart = {}
    for temperature in (1, 5, 20, 200):
        found = gradient(SoftTargets(temperature=temperature, hard_weight=0), z, [v])
        apart[temperature] = (500 * found - (z - v) / 5).abs().amax(1)
    # The next term of softmax's series: it falls with 1/T.
    square = z**2 - v**2
    expected = (square - square.mean(1, keepdim=True)).abs().amax(1) / (2 * 5 * 200)
    torch.testing.assert_close(apart[200], expected, rtol=0.1, atol=2e-5)
    # Typical of unit-normal logits of five classes.
    for temperature, typical in {1: 0.15, 5: 0.039, 20: 0.0099, 200: 0.00099}.items():
        assert apart[temperature].mean().item() == pytest.approx(typical, rel=0.05)
    limit = gradient(SoftTargets(temperature=math.inf, hard_weight=0), z, [v])
    torch.testing.assert_close(500 * limit, (z - v) / 5)


def test_logits_are_matched_up_to_a_constant_and_by_half_their_square():
    soft = SoftTargets(temperature=math.inf, hard_weight=0)
    z, v = torch.tensor([[3.0, 1.0]]), torch.tensor([[0.0, 0.0]])
    assert soft.loss(z, [v], torch.tensor([0])) == 0.5  # (1 and -1, each half its square)
    assert soft.loss(z, [z + 7], torch.tensor([0])) == 0


def test_a_teacher_that_is_certain_is_a_label():
    z, labels = logits(4, 3), torch.tensor([0, 2, 1, 2])
    certain = 1e4 * functional.one_hot(labels, 3).double()
    soft = SoftTargets(temperature=1, hard_weight=0)
    assert soft.loss(z, [certain], labels) == functional.cross_entropy(z, labels)
    both = SoftTargets(temperature=1, hard_weight=0.5).loss(z, [certain], labels)
    torch.testing.assert_close(both, 1.5 * functional.cross_entropy(z, labels))


def test_labels_are_learned_at_temperature_one():
    z, v, labels = logits(4, 3), logits(4, 3, seed=1), torch.tensor([0, 2, 1, 2])
    with_labels = SoftTargets(temperature=4, hard_weight=0.3).loss(z, [v], labels)
    without = SoftTargets(temperature=4, hard_weight=0).loss(z, [v], labels)
    torch.testing.assert_close(with_labels - without, 0.3 * functional.cross_entropy(z, labels))


def test_the_two_means_of_distributions_by_hand():
    answers = torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log()
    arithmetic = SoftTargets(temperature=1).targets(answers)
    torch.testing.assert_close(arithmetic, torch.tensor([[0.7, 0.3]]))
    # sqrt(0.9 * 0.5) : sqrt(0.1 * 0.5) = 3 : 1
    geometric = SoftTargets(temperature=1, combine="geometric").targets(answers)
    torch.testing.assert_close(geometric, torch.tensor([[0.75, 0.25]]))
    # At temperature 2 the distributions are softened first: 3 : 1 and 1 : 1.
    softened = SoftTargets(temperature=2).targets(answers)
    torch.testing.assert_close(softened, torch.tensor([[0.625, 0.375]]))


def test_one_teacher_is_its_own_mean():
    answers = logits(1, 4, 3)
    for combine in ("arithmetic", "geometric"):
        soft = SoftTargets(temperature=3, combine=combine)
        torch.testing.assert_close(soft.targets(answers), (answers[0] / 3).softmax(1))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"temperature": math.nan}, "temperature must be above 0, got nan"),
        ({"hard_weight": -1}, "hard_weight must be at least 0 and finite, got -1"),
        ({"combine": "median"}, "combine must be 'arithmetic' or 'geometric', got 'median'"),
    ],
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        SoftTargets(**settings)


def test_teachers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at least one teacher, got none"):
        Distillation([])
    objective = Distillation(nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r"student's shape, \(4, 5\), got \(4, 3\)"):
        objective(nn.Linear(2, 5), torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))


def network(width, seed=0, **options):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 4)
    )


def test_a_teacher_answers_in_evaluation_mode_and_is_left_as_found():
    teacher, student = network(8), network(3)
    teacher[0].eval()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    inputs, labels = torch.randn(5, 6), torch.zeros(5, dtype=torch.long)
    objective = Distillation(teacher, SoftTargets(temperature=2, hard_weight=0))
    random = torch.get_rng_state()
    student.eval()
    objective(student, inputs, labels).backward()
    assert torch.equal(torch.get_rng_state(), random)  # no dropout was drawn
    assert [m.training for m in teacher.modules()] == [True, False, True, True, True, True]
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(p.grad is not None for p in student.parameters())

    # It is the teacher of then, also where it is itself trained on.
    expected = objective(student, inputs, labels)
    with torch.no_grad():
        teacher[0].weight.zero_()
    assert torch.equal(objective(student, inputs, labels), expected)


def blobs(classes, count=40, seed=0):
    random = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes).repeat(count)
    samples = 0.5 * torch.randn(len(labels), 6, generator=random)
    samples[torch.arange(len(labels)), labels] += 2
    return samples, labels


def data(train, **options):
    return ArrayData("blobs", train, blobs(range(4), seed=1), 4, (0,), (1,), batch_size=20)


def accuracy(model, batch):
    with torch.no_grad():
        return (model.eval()(batch[0]).argmax(1) == batch[1]).float().mean().item()


def test_a_student_learns_from_teachers_without_labels():
    settings = TrainSettings(length="40ep", lr=0.05)
    teachers = [network(16, seed) for seed in (1, 2)]
    for teacher in teachers:
        fit(teacher, data(blobs(range(4))), TrainSettings(length="5ep", lr=0.1))
    wrong = torch.zeros(160, dtype=torch.long)
    unlabelled = data((blobs(range(4), seed=2)[0], wrong))
    student = nn.Linear(6, 4)
    objective = Distillation(teachers, SoftTargets(hard_weight=0, combine="geometric"))
    fit(student, unlabelled, settings, objective=objective)
    assert accuracy(student, blobs(range(4), seed=1)) > 0.95


def test_a_student_learns_a_class_that_it_never_sees():
    teacher = network(16, 1)
    fit(teacher, data(blobs(range(4))), TrainSettings(length="5ep", lr=0.1))
    student, by_label = nn.Linear(6, 4), nn.Linear(6, 4)
    transfer = data(blobs((0, 1, 3)))
    settings = TrainSettings(length="60ep", lr=0.05)
    soft = SoftTargets(temperature=math.inf, hard_weight=0)
    fit(student, transfer, settings, objective=Distillation(teacher, soft))
    fit(by_label, transfer, settings)
    unseen = tuple(part[2::4] for part in blobs(range(4), seed=1))
    assert set(unseen[1].tolist()) == {2}
    assert accuracy(student, unseen) > 0.5
    assert accuracy(by_label, unseen) == 0
