"""Whole groups of grouped convolutions: there are fewer of them, each as wide as it was."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

import prunus
from prunus.criteria import L1
from prunus.errors import DecisionWarning
from prunus.methods import Method, sss
from prunus.pruning import Pruner, Result
from prunus.selectors import TopK
from prunus.space import WholeGroups, trace
from prunus.types import Target


class Own(nn.Module):
    """A grouped convolution as a function, of a parameter of the network's own."""

    def __init__(self, *, transposed: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(24, 5, 1)
        self.kernel = nn.Parameter(torch.randn(*((12, 6) if transposed else (24, 3)), 3, 3))
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        call = F.conv_transpose2d if self.transposed else F.conv2d
        return self.last(call(self.first(x), self.kernel, groups=4).relu()).mean((2, 3))


def pruned(model: nn.Module, share: float = 0.5) -> Result:
    method = Method(
        name="groups",
        granularity=WholeGroups(),
        criterion=L1(),
        selector=TopK(scope="layer"),
    )
    x = torch.randn(2, 3, 16, 16)
    return prunus.prune(model, x, method=method, target=Target(sparsity=share))


def resnext() -> ResNet:
    return ResNet(Bottleneck, [2, 1, 1, 1], num_classes=5, groups=8, width_per_group=4).eval()


def grouped(model: nn.Module) -> list[tuple[int, int, int]]:
    """Return the groups of each grouped convolution, and how wide they are."""
    return [
        (m.groups, m.in_channels // m.groups, m.out_channels // m.groups)
        for m in model.modules()
        if isinstance(m, nn.modules.conv._ConvNd) and m.groups > 1
    ]


def test_half_the_groups_of_a_resnext() -> None:
    model = resnext()
    widths = [w for _, *w in grouped(model)]
    result = pruned(model)

    assert [(n, *w) for n, w in zip([4] * 5, widths, strict=True)] == grouped(result.model)
    assert result.report.verification is not None and result.report.verification.passed
    assert result.report.form == "original classes"
    x = torch.randn(3, 3, 20, 20)
    masked = resnext()
    masked.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, tensor in masked.state_dict().items():
            if name in result.mask:
                tensor.mul_(result.mask[name])
        torch.testing.assert_close(result.model(x), masked(x), rtol=1e-4, atol=1e-5)
    result.model.train()(x).sum().backward()
    again = pruned(result.model.eval())
    assert {n for n, *_ in grouped(again.model)} == {2}


def test_a_group_goes_with_all_that_it_reads_and_writes() -> None:
    model = resnext()
    (group,) = [
        g for g in trace(model, torch.randn(1, 3, 16, 16), whole_groups=True).groups
        if g.name.startswith("layer1.0") and g.grouped
    ]  # fmt: skip
    owned = {member.tensor: member.index.shape[1] for member in group.members}

    assert group.size == 8 and group.coupled == ("layer1.0.conv1", "layer1.0.conv2")
    assert {owned[f"layer1.0.{name}.weight"] for name in ("conv1", "conv2", "conv3")} == {4}
    assert group.members[0].index[1].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("model", "groups"),
    [
        (Own(), []),
        (Own(transposed=True), []),
        (
            nn.Sequential(
                *(nn.Conv2d(3, 12, 1), nn.ConvTranspose2d(12, 24, 3, groups=4), nn.ReLU()),
                *(nn.Conv2d(24, 5, 1), nn.Flatten(), nn.LazyLinear(3)),
            ),
            [(2, 3, 6)],
        ),
        (
            nn.Sequential(
                nn.Conv2d(3, 12, 1),
                nn.utils.parametrizations.weight_norm(nn.Conv2d(12, 24, 3, groups=4)),
                *(nn.ReLU(), nn.Conv2d(24, 24, 3, groups=24), nn.Conv2d(24, 5, 1)),
            ),
            [(2, 3, 6), (12, 1, 1)],
        ),
        (  # two in a row: a group of the second reads two of the first, so both go
            nn.Sequential(
                *(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, groups=8), nn.ReLU()),
                *(nn.Conv2d(16, 8, 3, groups=4), nn.Conv2d(8, 5, 1)),
            ),
            [(4, 2, 2), (2, 4, 2)],
        ),
    ],
)
def test_every_way_of_having_groups(model: nn.Module, groups: list[tuple[int, int, int]]) -> None:
    model(torch.randn(2, 3, 16, 16))
    result = pruned(model.eval())

    assert result.report.reached == pytest.approx(0.5)
    assert result.report.verification is not None and result.report.verification.passed
    assert grouped(result.model) == groups
    result.model.train()(torch.randn(1, 3, 16, 16)).sum().backward()


def test_groups_that_are_all_mixed_stay() -> None:
    mixed = nn.Sequential(
        *(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 24, 3, groups=2), nn.ReLU()),
        *(nn.Conv2d(24, 12, 3, groups=3), nn.Conv2d(12, 5, 1)),
    )
    with pytest.warns(DecisionWarning, match="nothing went"):
        assert grouped(pruned(mixed).model) == grouped(mixed)


def test_without_grouped_convolutions_there_is_nothing() -> None:
    chain = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 24, 3))
    with pytest.raises(ValueError, match=r"no grouped convolutions.*unit='channel'"):
        Pruner(chain, torch.randn(1, 3, 8, 8), sss(unit="group"))


def test_groups_of_factor_zero_go_and_no_others() -> None:
    torch.manual_seed(0)
    model, x = resnext(), torch.randn(2, 3, 16, 16)
    pruner = Pruner(model, x, sss(unit="group", begin="1it"))
    with torch.no_grad():
        pruner._masking.values.copy_(torch.linspace(0.5, 2, len(pruner._masking.values)))
        pruner._masking.values[[1, 9, 10]] = 0
    expected = model.eval()(x)
    pruner.step()
    result = pruner.finish()

    assert [n for n, *_ in grouped(result.model)] == [7, 6, 8, 8, 8]
    torch.testing.assert_close(result.model.eval()(x), expected, rtol=1e-4, atol=1e-5)
