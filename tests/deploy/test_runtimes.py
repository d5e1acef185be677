"""What runs where, and in which numbers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from prunus.deploy import RUNTIMES, Module
from prunus.deploy.runtimes import check_precision, check_runtime, inference, precisions_of
from prunus.deploy.torch_runtimes import keeps_threads
from prunus.errors import InferenceError
from prunus.types import Setting
from small_files import perceptron


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Module(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9)), torch.randn(2, 4))


@pytest.fixture
def bfloat16(monkeypatch):
    def have(value):
        monkeypatch.setattr("prunus.deploy.runtimes.has_bfloat16", lambda: value)

    return have


def test_runtimes_by_name():
    assert list(RUNTIMES) == ["onnxruntime", "openvino", "sparse", "torch-compile", "torch"]
    assert check_runtime("torch.compile") is RUNTIMES["torch-compile"]
    with pytest.raises(ValueError, match=r"'openvin' is unknown; there are.*Did you mean"):
        check_runtime("openvin")


def test_a_missing_package_is_named(monkeypatch):
    absent = replace(RUNTIMES["openvino"], package="no_such_package")
    monkeypatch.setitem(RUNTIMES, "openvino", absent)
    with pytest.raises(ValueError, match="is not installed; pip install no_such_package"):
        check_runtime("openvino")


def test_numbers_that_a_runtime_does_not_have_are_refused(bfloat16):
    bfloat16(True)
    with pytest.raises(InferenceError, match=r"'onnxruntime' does not compute in bf16.*openvino"):
        check_precision("onnxruntime", "bf16")
    with pytest.raises(InferenceError, match=r"does not compute in int8.*Take onnxruntime or op"):
        check_precision("torch", "int8")
    assert precisions_of("torch") == ("fp32", "bf16")
    bfloat16(False)
    with pytest.raises(InferenceError, match="no instructions for bf16"):
        check_precision("torch", "bf16")
    assert precisions_of("torch") == ("fp32",)
    assert precisions_of("onnxruntime") == ("fp32", "int8")


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_network_of_the_wrong_form_is_refused(runtime, module, tmp_path):
    other = perceptron(tmp_path / "a.onnx") if runtime == "torch" else module
    with pytest.raises(InferenceError, match=f"runtime '{runtime}' runs "):
        inference(other, Setting(runtime=runtime))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_that_fails_on_a_file_says_so(runtime, tmp_path):
    pytest.importorskip(runtime)
    path = perceptron(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InferenceError, match=r"cannot (load|run) net\.onnx"):
        inference(path, Setting(runtime=runtime))


def test_a_module_that_fails_says_so(module):
    broken = Module(module.model, torch.randn(2, 5))
    with pytest.raises(InferenceError, match=r"torch .* cannot run Sequential in fp32 \(Runtime"):
        inference(broken, Setting(runtime="torch"))


def test_eager_runs_a_copy_in_evaluation_mode_with_so_many_rows(module):
    run = inference(module, Setting(runtime="torch", batch=5))
    out = run()
    assert out.shape == (5, 3)
    assert module.model.training
    assert torch.allclose(out, module.model[0](module.example[:1]).expand(5, 3), atol=1e-6)
    with torch.no_grad():
        module.model[0].weight.zero_()
    assert torch.equal(run(), out)


def test_eager_in_bf16(module, bfloat16):
    bfloat16(True)
    out = inference(module, Setting(runtime="torch", precision="bf16"))()
    assert out.dtype == torch.bfloat16
    assert module.model[0].weight.dtype == torch.float32


def test_threads_are_those_of_the_setting_and_given_back(module):
    before = torch.get_num_threads()
    seen = []
    module.model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    with keeps_threads():
        inference(module, Setting(runtime="torch", threads=before + 1))()
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_each_network_is_compiled_whole_and_apart(module, monkeypatch):
    compiled = []

    def fake(call, **options):
        compiled.append((call.__code__, options))
        return call

    monkeypatch.setattr(torch, "compile", fake)
    for _ in range(2):
        assert inference(module, Setting(runtime="torch.compile"))().shape == (1, 3)
    codes = [code for code, _ in compiled]
    assert codes[0] is not codes[1], "torch keeps few compiled versions of one code"
    assert all(options["fullgraph"] and options["options"]["freezing"] for _, options in compiled)


@pytest.mark.slow
def test_compiled_outputs_are_those_of_eager(module):
    eager, compiled = (
        inference(module, Setting(runtime=runtime, batch=3))()
        for runtime in ("torch", "torch-compile")
    )
    assert torch.allclose(eager, compiled, atol=1e-5)
