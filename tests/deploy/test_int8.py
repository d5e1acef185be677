"""Files in int8: near to float32, of the calibration data's making, never in the other's place."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from prunus.deploy import quantise
from prunus.deploy.feeds import session
from prunus.deploy.int8 import is_int8_of
from prunus.deploy.runtimes import inference
from prunus.errors import ExportError, InferenceError
from prunus.types import Setting
from small_files import perceptron, save


@pytest.fixture
def data():
    return list(torch.randn(256, 8, generator=torch.Generator().manual_seed(1)).split(64))


def test_int8_is_near_float32_and_whole_numbers_are_in_the_file(tmp_path, data):
    path = perceptron(tmp_path / "net.onnx")
    before = path.read_bytes()
    found = quantise(path, data)

    assert found.path == tmp_path / "net-int8.onnx"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net-int8.onnx", "net.onnx"]
    assert path.read_bytes() == before
    assert 0 < found.difference < 0.05
    assert 0.9 < found.agreement <= 1
    assert found.samples == 256
    model = onnx.load(found.path)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    held = [onnx.numpy_helper.to_array(value) for value in model.graph.initializer]
    weights = [value for value in held if value.dtype == np.int8 and value.ndim == 2]
    assert {value.shape for value in weights} == {(8, 32), (32, 5)}
    assert all(np.abs(value.astype(int)).max() <= 64 for value in weights), "7 bits"


def test_the_difference_and_agreement_are_those_of_the_outputs(tmp_path, data):
    path = perceptron(tmp_path / "net.onnx")
    found = quantise(path, data)
    x = {"x": torch.cat(data).numpy()}
    a, b = session(path).run(None, x)[0], session(found.path).run(None, x)[0]
    assert found.difference == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a), rel=1e-3)
    assert found.agreement == pytest.approx((a.argmax(1) == b.argmax(1)).mean())


def test_each_channel_of_weights_has_its_own_scale(tmp_path, data):
    # One scale for all, set by the large channel, would round the others' weights to zero.
    path = perceptron(tmp_path / "net.onnx", scale=1e4)
    model = onnx.load(quantise(path, data).path)
    held = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    (name,) = (name for name, value in held.items() if value.shape == (32, 5))
    assert (np.abs(held[name].astype(int)).max(0) >= 63).all()


def test_openvino_computes_what_onnx_runtime_does(tmp_path, data):
    openvino = pytest.importorskip("openvino")
    path = quantise(perceptron(tmp_path / "net.onnx"), data).path
    x = data[0].numpy()
    ours = session(path).run(None, {"x": x})[0]
    theirs = openvino.Core().compile_model(path, "CPU")([x])[0]
    assert np.abs(ours - theirs).max() < 0.05 * np.abs(ours).max()


def test_a_file_of_fixed_batch_is_calibrated_row_by_row(tmp_path, data):
    found = quantise(perceptron(tmp_path / "net.onnx", batch=16), data)
    assert found.samples == 256
    assert found.difference < 0.05
    with pytest.raises(ValueError, match=r"batch of the size that the file takes \(16"):
        quantise(tmp_path / "net.onnx", [torch.randn(3, 8)])


def test_without_data_the_values_are_made_up_and_nothing_is_said_to_agree(tmp_path):
    found = quantise(perceptron(tmp_path / "net.onnx"))
    assert found.agreement is None
    assert found.path.is_file()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            [torch.randn(4, 7)],
            r"'x' of net.onnx must have the shape \(batch, 8\), got \(4, 7",
        ),
        ([torch.randn(8)], r"must have the shape \(batch, 8\), got \(8,\)"),
        ([(torch.randn(4, 8), torch.randn(4, 8))], "takes 1 inputs, got 2 tensors"),
        ([], "at least one batch"),
    ],
)
def test_data_that_do_not_fit_are_refused(tmp_path, data, words):
    path = perceptron(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=words):
        quantise(path, data)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_the_float32_file_is_never_replaced(tmp_path, data):
    path = perceptron(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="which stays"):
        quantise(path, data, tmp_path / "." / "net.onnx")
    with pytest.raises(FileNotFoundError, match="no ONNX file"):
        quantise(tmp_path / "none.onnx", data)


def test_a_file_without_anything_to_quantise_is_refused(tmp_path):
    shape = ("n", 8)
    node = helper.make_node("Exp", ["x"], ["y"])
    path = save(tmp_path / "exp.onnx", [node], [("x", shape)], ("y", shape))
    with pytest.raises(ExportError, match=r"nothing in exp\.onnx can be quantised"):
        quantise(path, [torch.randn(4, 8)])
    assert [file.name for file in tmp_path.iterdir()] == ["exp.onnx"]


def test_outputs_as_bad_as_zeros_are_refused_and_the_old_file_stays(tmp_path, data, monkeypatch):
    path = perceptron(tmp_path / "net.onnx")
    old = quantise(path, data).path.read_bytes()

    def faulty(source, out, feeds):
        perceptron(out, scale=100.0)

    monkeypatch.setattr("prunus.deploy.int8._quantise", faulty)
    with pytest.raises(ExportError, match=r"as far from float32 as zeros would be.*Calibrate"):
        quantise(path, data)
    assert (tmp_path / "net-int8.onnx").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_named(tmp_path, data):
    path = perceptron(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InferenceError, match=r"cannot load net\.onnx"):
        quantise(path, data)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_a_file_knows_what_it_was_made_of(tmp_path, data):
    path = perceptron(tmp_path / "net.onnx")
    made = quantise(path, data).path
    assert is_int8_of(made, path)
    assert not is_int8_of(path, path)
    assert not is_int8_of(tmp_path / "none.onnx", path)
    perceptron(path, scale=2.0)
    assert not is_int8_of(made, path)


def test_both_runtimes_run_it(tmp_path, data):
    path = quantise(perceptron(tmp_path / "net.onnx"), data).path
    for runtime in ("onnxruntime", "openvino"):
        pytest.importorskip(runtime)
        inference(path, Setting(runtime=runtime, precision="int8", batch=3))()
