"""The same 2:4 masks as torchao's Wanda.

torchao multiplies |w| by the square of the norm where the paper has the norm, and beyond 2:4 ranks
whole layers instead of rows; so the inputs given to ours are scaled by their norms once more.
"""

import warnings

import pytest
import torch
from torch import nn

from prunus import Calibration, prune
from prunus.methods import wanda

X = torch.randn(16, 24, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 25) ** 0.5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(3))
def test_half_of_every_four_weights(seed):
    sparsity = pytest.importorskip("torchao.sparsity")
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(24, 12))
    scaled = X * torch.linalg.vector_norm(X, dim=0)
    ours = prune(model, X[:1], method=wanda(pattern="2:4"), calibration=Calibration([scaled])).mask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sparsifier = sparsity.WandaSparsifier(semi_structured_block_size=4)
        sparsifier.prepare(model, config=None)
        model(X)
        sparsifier.step()
        sparsifier.squash_mask()
    assert torch.equal(ours["0.weight"], model[0].weight != 0)
