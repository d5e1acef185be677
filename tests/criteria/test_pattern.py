"""Patterns: what a method left per stage, and what that keeps of another network."""

import pytest
import torch
from torch import nn

from prunus import Target, methods, zoo
from prunus.criteria import Evidence, Pattern, pattern
from prunus.pruning import prune
from prunus.run.masks import units
from prunus.space import Structured, Unstructured, trace


def stage(inputs, channels, layers):
    convolutions = []
    for _ in range(layers):
        convolutions += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()]
        inputs = channels
    return convolutions


def network(layers, width=1):
    """Stages of 8 and 16 channels, each of so many layers."""
    small, wide = 8 * width, 16 * width
    pooled = [nn.MaxPool2d(2), *stage(small, wide, layers[1]), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*stage(3, small, layers[0]), *pooled, nn.Flatten(), nn.Linear(wide, 4))


EXAMPLE = torch.randn(1, 3, 8, 8)


def left(small):
    return [group["after"] for group in small.report.groups]


def test_a_stage_has_the_mean_share_of_its_layers_whatever_their_sizes():
    space = trace(network((2, 3)), EXAMPLE)
    groups = Structured().groups(space)
    kept = (8, 2, 4, 8, 12)  # of 8, 8, 16, 16, 16
    keep = {
        group.name: torch.arange(group.size) < count
        for group, count in zip(groups, kept, strict=True)
    }
    found = pattern(groups, keep)
    assert found.stages == ({(): (0.625,)}, {(): (0.5,)})
    # The same widths in a deeper network, and the same shares in a wider one.
    for other, widths in (
        (network((3, 4)), [5, 5, 5, 8, 8, 8, 8]),
        (network((1, 2), width=2), [10, 16, 16]),
    ):
        assert left(prune(other, EXAMPLE, method=methods.guided(found))) == widths


def test_all_shares_times_one_factor_meet_a_cost():
    found = Pattern(({(): (0.8,)}, {(): (0.4,)}))
    other = network((2, 2), width=8)
    guided = methods.guided(found, scaled=True)
    small = prune(other, EXAMPLE, method=guided, target=Target(macs=0.1))
    first, second, third, fourth = left(small)
    assert first == pytest.approx(second, abs=1)
    assert third == pytest.approx(fourth, abs=1)
    assert first / 64 == pytest.approx(2 * third / 128, rel=0.1)
    dense, pruned = small.report.costs["macs"]
    assert pruned == pytest.approx(0.1 * dense, rel=0.01)


def test_stages_of_another_number_take_shares_at_their_relative_depth():
    found = Pattern(({(): (1.0,)}, {(): (0.5,)}))
    sizes = [8, 4, 2, 1]  # four stages: halved three times
    layers, inputs = [], 3
    for place, _ in enumerate(sizes):
        layers += [nn.MaxPool2d(2)] if place else []
        layers += [nn.Conv2d(inputs, 12, 3, padding=1), nn.ReLU()]
        inputs = 12
    other = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 2))
    assert left(prune(other, EXAMPLE, method=methods.guided(found))) == [12, 10, 8, 6]


def test_weights_are_drawn_with_the_probability_of_their_place_in_the_kernel():
    space = trace(network((2, 1), width=2), EXAMPLE)
    conv = Unstructured(layers="conv")
    groups = conv.groups(space)
    cross = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]).bool()
    keep = {g.name: cross.expand(g.weight.shape).reshape(-1).clone() for g in groups}
    keep[groups[1].name] = torch.ones(groups[1].size, dtype=torch.bool)
    found = pattern(groups, keep)
    first, second = ([*one[3, 3]] for one in found.stages)
    assert first == [0.5, 1.0, 0.5, 1.0, 1.0, 1.0, 0.5, 1.0, 0.5]
    assert second == cross.flatten().double().tolist()

    other = network((1, 2), width=8)
    mask = prune(other, EXAMPLE, method=methods.guided(found, granularity=conv)).mask
    kept = {n: m.float().mean((0, 1)) for n, m in mask.items() if m.ndim == 4}
    one, *others = kept.values()
    corner = torch.tensor([0, 0, 2, 2]), torch.tensor([0, 2, 0, 2])
    spread = (0.25 / (3 * 64)) ** 0.5  # of a share of 192 draws
    assert ((one[corner] - 0.5).abs() < 4 * spread).all()
    assert all(torch.equal(other, cross.float()) for other in others)
    assert mask[f"{len(other) - 1}.weight"].all()  # layers="conv" leaves it whole


def test_kernels_that_were_not_met_take_the_mean_of_their_stage():
    found = Pattern(({(3, 3): (0.0,) * 4 + (0.9,) * 5}, {(): (0.5,)}))
    assert found._shares((5, 5), 0.0) == pytest.approx([0.5] * 25)
    assert found._shares((), 0.0) == [0.5]


def test_the_choice_is_reproducible_and_depends_on_the_seed():
    found, given = Pattern(({(): (0.5,)},)), network((1, 1))
    masks = [
        prune(given, EXAMPLE, method=methods.guided(found), seed=seed).mask["0.weight"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize(
    "stages", [(), ({},), ({(): (1.5,)},), ({(3, 3): (0.5,)},), ({(): (0.5, 0.5)},)]
)
def test_what_is_no_pattern_is_refused(stages):
    with pytest.raises(ValueError, match=r"at least one stage|shares in"):
        Pattern(stages)


def test_from_vgg16_to_vgg19():
    source, other = zoo.network("vgg16"), zoo.network("vgg19")
    example = zoo.example("vgg16")[:1]
    granularity = Structured()
    small = prune(source, example, method="l1_filter", target=Target(macs=0.3), check=False)
    space = trace(source, example)
    groups = granularity.groups(space)
    found = pattern(groups, units(space, granularity, small.mask))
    made = prune(other, example, method=methods.guided(found), check=False)
    shares = [group["after"] / group["before"] for group in made.report.groups]
    per_stage = [shares[a:b] for a, b in ((0, 2), (2, 4), (4, 8), (8, 12), (12, 16))]
    assert all(len(set(one)) == 1 for one in per_stage)
    assert [one[0] for one in per_stage] == pytest.approx(
        [stage[()][0] for stage in found.stages], abs=0.01
    )


def test_scores_say_what_a_threshold_of_one_keeps():
    space = trace(network((1, 1)), EXAMPLE)
    groups = Structured().groups(space)
    evidence = Evidence(weights={}, generator=torch.Generator().manual_seed(0))
    scores = Pattern(({(): (0.25,)}, {(): (1.0,)})).score(groups, evidence)
    assert [int((score >= 1).sum()) for score in scores.values()] == [2, 16]
