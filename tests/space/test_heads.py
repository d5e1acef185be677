"""Whole attention heads, or the width inside them."""

import pytest
import torch
from torch import Tensor, nn

import prunus
from handmade import NETWORKS
from prunus.criteria import L1
from prunus.methods import Method
from prunus.pruning import Result
from prunus.selectors import TopK
from prunus.space import Structured, trace
from prunus.types import Target

LAYER = "decoder.layers.0"


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(12, 3, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.inner(x, x, x, need_weights=False)[0])


def pruned(model: nn.Module, example: Tensor, *, inside_heads: bool) -> Result:
    method = Method(
        name="heads",
        granularity=Structured(inside_heads=inside_heads),
        criterion=L1(),
        selector=TopK(scope="layer"),
    )
    return prunus.prune(model, example, method=method, target=Target(sparsity=0.5))


@pytest.mark.parametrize(
    ("name", "heads", "inside"),
    [
        ("attention_separate_masked", {"q": 3}, {"q": 8, "v": 8}),
        ("attention_grouped_queries", {"q": 2}, {"q": 8, "v": 8}),
        ("attention_rotary", {"q": 2}, {"q": 4, "v": 8}),
        ("attention_relative_bias", {"qkv": 3}, {"qkv": 4}),
        ("attention_fused", {"qkv": 4}, {"qkv": 4}),
        ("window_attention", {"qkv": 3}, {"qkv": 4}),
        (
            "transformer_decoder",
            {"decoder.layers.0.self_attn": 3},
            {"decoder.layers.0.self_attn": 4},
        ),
    ],
)
def test_heads_go_or_get_narrower(name: str, heads: dict[str, int], inside: dict[str, int]) -> None:
    for inside_heads, expected in ((False, heads), (True, inside)):
        model, example = NETWORKS[name]()
        found = {g.name: g.size for g in trace(model, example, inside_heads=inside_heads).groups}
        assert found.items() >= expected.items()

        result = pruned(model.eval(), example, inside_heads=inside_heads)

        after = {group["name"]: group["after"] for group in result.report.groups}
        assert after.items() >= {key: size // 2 for key, size in expected.items()}.items()
        assert result.report.verification is not None
        assert result.report.verification.passed


def test_the_scale_is_that_of_the_dense_width() -> None:
    example = torch.randn(2, 5, 12)

    result = pruned(Attention(), example, inside_heads=True)

    assert {g["name"]: (g["before"], g["after"]) for g in result.report.groups} == {"inner": (4, 2)}
    assert result.model(torch.randn(3, 7, 12)).shape == (3, 7, 2)
    result.model.train()(example).sum().backward()
