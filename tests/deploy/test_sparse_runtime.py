"""Networks with zeros in the sparse runtime, where it is installed."""

import numpy as np
import pytest
import torch
from torch import nn

from prunus import Target, methods, prune
from prunus.deploy import export_onnx
from prunus.deploy.runtimes import inference, version_of
from prunus.types import Setting

SPARSE = Setting(runtime="sparse")


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return pytest.importorskip("prunus_engine", reason="prunus-engine is not installed")


@pytest.fixture
def wide():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU())


def test_masked_zeros_are_zeros_in_the_file(tmp_path):
    onnx = pytest.importorskip("onnx")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten())
    x = torch.randn(2, 8, 5, 5)
    small = prune(network, x, method=methods.magnitude(), target=Target(sparsity=0.9)).model
    graph = onnx.load(export_onnx(small, x, tmp_path / "small.onnx")).graph
    (weight,) = (w for t in graph.initializer if (w := onnx.numpy_helper.to_array(t)).ndim == 4)
    assert np.count_nonzero(weight) == int(small[0].weight.count_nonzero()) == 115


def test_a_file_runs_in_it(engine, wide, tmp_path):
    x = torch.randn(4, 512)
    small = prune(wide, x, method=methods.magnitude(unit="4x1")).model
    path = export_onnx(small, x, tmp_path / "small.onnx")
    for setting in (SPARSE, Setting(runtime="sparse", batch=16, threads=2)):
        (found,) = inference(path, setting)()
        assert found.shape == (setting.batch, 512)
    assert version_of("sparse").startswith("sparse 0.")


@pytest.mark.slow
def test_zeros_reach_a_speed(engine, wide):
    x = torch.randn(1, 512)
    method = methods.magnitude(unit="16x1", scope="layer")
    result = prune(wide, x, method=method, target=Target(speedup=2.0, runtime="sparse", batch=64))
    assert result.report.reading.runtime.startswith("sparse")
    assert 0.0 < float((result.model[0].weight == 0).float().mean()) < 1.0
