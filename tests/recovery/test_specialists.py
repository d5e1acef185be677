import math

import pytest
import torch
from torch import nn

from prunus.recovery import Coarse, cluster_classes, consult, specialist


def probabilities(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=random).mul(1.5).softmax(-1)


def coarse(q, known):
    rest = [number for number in range(q.shape[-1]) if number not in known]
    return torch.cat([q[..., list(known)], q[..., rest].sum(-1, keepdim=True)], -1)


def divergence(general, special, classes, asked, q):
    """Return what is minimised, per sample."""
    total = (general * (general / q).log()).sum(1)
    for m, known in enumerate(classes):
        own = coarse(q, known)
        total = total + asked[:, m] * (special[m] * (special[m] / own).log()).sum(1)
    return total


def confused(samples=200):
    """Predictions of three pairs of classes, each pair confused: 0 with 3, 1 with 4, 2 with 5."""
    random = torch.Generator().manual_seed(0)
    pair = torch.randint(3, (samples,), generator=random)
    logits = torch.randn(samples, 6, generator=random)
    logits[torch.arange(samples), pair] += 6
    logits[torch.arange(samples), pair + 3] += 6
    return logits.softmax(1)


@pytest.mark.parametrize("seed", range(3))
def test_classes_predicted_together_are_a_cluster(seed):
    found = cluster_classes(confused(), 3, seed=seed)
    assert sorted(found) == [(0, 3), (1, 4), (2, 5)]
    assert found == cluster_classes(confused(), 3, seed=seed)


def test_clusters_of_a_given_size_overlap():
    found = cluster_classes(confused(), 3, size=4)
    assert [len(cluster) for cluster in found] == [4, 4, 4]
    pairs = [{0, 3}, {1, 4}, {2, 5}]
    assert all(any(pair <= set(cluster) for cluster in found) for pair in pairs)
    assert sum(map(len, found)) > 6


def test_clusters_leave_the_random_state_alone():
    before = torch.get_rng_state()
    cluster_classes(confused(), 2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("settings", [{"count": 0}, {"count": 6}, {"count": 2, "size": 7}])
def test_impossible_clusters_are_refused(settings):
    with pytest.raises(ValueError, match="must be from 1 to 5, got"):
        cluster_classes(confused(), **settings)


@pytest.mark.parametrize("bias", [True, False])
def test_a_specialist_begins_as_its_generalist(bias):
    generalist = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5, bias=bias))
    with torch.no_grad():  # the classes of the dustbin have one logit, whatever the input
        generalist[2].weight[[0, 2, 4]] = generalist[2].weight[0].clone()
        if bias:
            generalist[2].bias[[0, 2, 4]] = 0.5
    x, before = torch.randn(6, 4), torch.get_rng_state()
    network = specialist(generalist, (3, 1), "2")
    expected = coarse(generalist(x).softmax(1), (3, 1))
    torch.testing.assert_close(network(x).softmax(1), expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert generalist[2].weight.shape == (5, 8)
    assert network[2].out_features == 3
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_dustbin_begins_below_the_sum_of_its_classes():
    network = nn.Sequential(nn.Linear(4, 6))
    x = torch.randn(20, 4)
    begun = specialist(network, (0, 1), "0")(x)[:, -1]
    assert (begun <= network(x)[:, 2:].logsumexp(1) + 1e-6).all()


@pytest.mark.parametrize("classes", [(), (0, 1, 2), (0, 0), (5,)])
def test_a_specialist_needs_some_of_the_classes(classes):
    with pytest.raises(ValueError, match="some, not all, of 3 classes, each once, got"):
        specialist(nn.Sequential(nn.Linear(2, 3)), classes, "0")
    with pytest.raises(ValueError, match=r"0 must be an nn.Linear, got ReLU"):
        specialist(nn.Sequential(nn.ReLU()), (0,), "0")


def test_a_generalist_teaches_the_sum_of_the_others():
    generalist = nn.Linear(4, 5)
    x = torch.randn(3, 4)
    expected = coarse(generalist(x).softmax(1), (3, 1))
    torch.testing.assert_close(Coarse(generalist, (3, 1))(x).softmax(1), expected)
    # Oversampled four times, their odds against the dustbin are four times as high.
    odds = Coarse(generalist, (3, 1), oversampled=4)(x).softmax(1)
    ratio = (odds[:, 0] / odds[:, 2]) / (expected[:, 0] / expected[:, 2])
    torch.testing.assert_close(ratio, torch.full((3,), 4.0))


def test_where_nobody_is_asked_the_generalist_answers():
    general = probabilities(50, 6)
    special = [probabilities(50, 3, seed=1)]
    found = consult(general, special, [(0, 2)])
    best = general.argmax(1)
    away = (best != 0) & (best != 2)
    assert 0 < away.sum() < 50
    assert torch.equal(found[away], general[away])
    assert not torch.isclose(found[~away], general[~away]).all(1).any()
    assert torch.equal(consult(general, [], []), general)


def test_specialists_that_agree_change_nothing():
    general, classes = probabilities(50, 6), [(0, 1, 2), (2, 3), (4, 5)]
    special = [coarse(general, known) for known in classes]
    torch.testing.assert_close(consult(general, special, classes, top=6), general)


def test_one_specialist_in_closed_form():
    general, special, known = probabilities(50, 6), probabilities(50, 3, seed=1), [1, 4]
    found = consult(general, [special], [known], top=6)
    rest = [0, 2, 3, 5]
    # Its classes and the dustbin are the mean of both; within the dustbin the generalist decides.
    mean = (coarse(general, known) + special) / 2
    torch.testing.assert_close(found[:, known], mean[:, :2])
    share = general[:, rest] / general[:, rest].sum(1, keepdim=True)
    torch.testing.assert_close(found[:, rest], mean[:, 2:] * share)


@pytest.mark.parametrize("top", [1, 3])
def test_it_finds_the_minimum(top):
    general, classes = probabilities(40, 8), [(0, 1, 2), (2, 3, 4), (2, 5, 6), (0, 7)]
    special = [probabilities(40, len(known) + 1, seed=m) for m, known in enumerate(classes, 1)]
    found = consult(general, special, classes, top=top, tolerance=1e-13)
    torch.testing.assert_close(found.sum(1), torch.ones(40, dtype=torch.float64))

    best = general.topk(top, dim=1).indices.tolist()
    asked = torch.tensor(
        [[float(bool(set(known) & set(own))) for known in classes] for own in best]
    )
    assert len(set(asked.sum(1).tolist())) > 1
    # The sum is convex in q, so a slope of zero is its minimum,
    z = found.log().requires_grad_()
    least = divergence(general, special, classes, asked, z.softmax(1))
    (slope,) = torch.autograd.grad(least.sum(), z)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-10)
    # and gradient descent on the logits of q, the paper's way, ends there.
    z = general.log().requires_grad_()
    for _ in range(400):
        total = divergence(general, special, classes, asked, z.softmax(1))
        (slope,) = torch.autograd.grad(total.sum(), z)
        z = (z - slope).detach().requires_grad_()
    torch.testing.assert_close(total, least, rtol=0, atol=1e-4)
    assert (total > least - 1e-12).all()


def test_answers_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"specialist 0 must give 3 probabilities for each of 4 "):
        consult(probabilities(4, 6), [probabilities(4, 2)], [(0, 1)])


def test_raising_the_dustbin_undoes_oversampling():
    # One binary input x; class 0 of three is known. Counts of (x, class) in the world:
    world = torch.tensor([[6.0, 30.0, 10.0], [2.0, 50.0, 2.0]])
    special, rest = world[:, 0], world[:, 1:].sum(1)
    oversampled = rest.sum() / special.sum()
    balanced = torch.stack([special * oversampled, rest], 1)  # as many of each
    logits = (balanced / balanced.sum(1, keepdim=True)).log()
    logits[:, -1] += math.log(oversampled)
    torch.testing.assert_close(logits.softmax(1)[:, 0], special / world.sum(1))
