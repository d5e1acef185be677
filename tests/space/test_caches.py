"""Networks that keep what their weights gave, as LeViT's attention does with its biases."""

import pytest
import torch
from torch import Tensor, nn

import prunus


class Biased(nn.Module):
    """Scores plus a bias per pair of positions, looked up once for evaluation, as in LeViT."""

    def __init__(self, heads: int = 4, width: int = 6, *, written: bool = False) -> None:
        super().__init__()
        self.heads, self.width, self.written = heads, width, written
        self.query = nn.Linear(5, heads * width)
        self.biases = nn.Parameter(torch.randn(heads, 3))
        self.register_buffer("pairs", torch.tensor([[0, 1, 2], [1, 0, 1], [2, 1, 0]]))
        self.out = nn.Linear(heads * 3, 2)
        self.cache: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> nn.Module:
        if mode:
            self.cache = {}
        return super().train(mode)

    def bias(self) -> Tensor:
        if self.training:
            return self.biases[:, self.pairs]
        if "cpu" not in self.cache:
            self.cache["cpu"] = self.biases[:, self.pairs]
        return self.cache["cpu"]

    def forward(self, x: Tensor) -> Tensor:
        heads = self.heads if self.written else len(self.biases)
        q = self.query(x).unflatten(-1, (heads, -1)).transpose(1, 2)
        scores = (q @ q.transpose(-1, -2) + self.bias()).softmax(-1)
        return self.out(scores.mean(2).flatten(1))


@pytest.mark.parametrize("written", [False, True])
def test_what_was_cached_before_pruning_is_computed_anew(written: bool) -> None:
    torch.manual_seed(0)
    net = Biased(written=written).eval()
    x = torch.randn(2, 3, 5)
    with torch.no_grad():
        net(x)
    (kept,) = net.cache.values()
    method = prunus.methods.l1_filter(coupled=True, round_to=1)
    result = prunus.prune(net, x, method=method, target=prunus.Target(sparsity=0.5))
    assert list(net.cache.values()) == [kept]  # the user's network stays as it was
    assert result.report.form == ("rewritten graph" if written else "original classes")
    assert len(result.model.get_parameter("biases")) < 4

    masked = Biased(written=written).eval()
    masked.load_state_dict({k: v * result.mask.get(k, 1) for k, v in net.state_dict().items()})
    torch.testing.assert_close(result.model(x), masked(x))
    with torch.no_grad():
        result.model.get_parameter("biases").add_(torch.randn(3))
    after = result.model.train()(x)
    torch.testing.assert_close(result.model.eval()(x), after)


class Supernet(nn.Module):
    """A choice that `train` takes back, and a cache that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 2)
        self.selected: int | None = None
        self.shared: dict[str, Tensor] = {}
        self.first.shared = self.last.shared = self.shared

    def train(self, mode: bool = True) -> nn.Module:
        if mode:
            self.selected = None
            self.shared = self.first.shared = self.last.shared = {}
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and "w" not in self.first.shared:
            self.first.shared["w"] = self.first.weight.abs()
        weight = self.first.weight.abs() if self.training else self.last.shared["w"]
        h = (x @ weight.t()).relu()
        return self.last(h if self.selected is None else h * self.selected)


@pytest.mark.filterwarnings("ignore:nothing went")
def test_only_containers_of_tensors_are_caches_and_what_shares_them_goes_on_doing_so() -> None:
    torch.manual_seed(0)
    net, x = Supernet().eval(), torch.randn(3, 5)
    net.selected = 3
    expected = net(x).detach()
    method = prunus.methods.magnitude()
    small = prunus.prune(net, x, method=method, target=prunus.Target(sparsity=1e-9)).model
    assert small.selected == 3
    torch.testing.assert_close(small.eval()(x), expected)
