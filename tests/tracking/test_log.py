import logging

import pytest

from prunus.tracking import Sinks, identity, sink
from prunus.tracking.sink import finals, points


class Memory:
    """A sink that keeps what it is told and fails at a call of one name."""

    title = "memory"

    def __init__(self, fails=""):
        self.calls, self.fails = [], fails

    def __getattr__(self, name):
        def call(*args, **options):
            self.calls.append((name, *args, *options.values()))
            if name == self.fails:
                raise ConnectionError("no route\nto host")
            return self

        return call


def test_a_sink_that_fails_is_told_of_once_and_the_others_go_on(tracked, records, caplog):
    good, bad = Memory(), Memory(fails="curve")
    sinks = Sinks([bad, good])
    for _ in range(2):
        with sinks.open(tracked) as log:
            log.curve("dense", records(1))
            log.curve("dense", records(2))
            log.finish({"accuracy": 0.5})
    assert [call[0] for call in bad.calls] == ["open", "curve", "close"]
    assert bad.calls[-1] == ("close", False)  # what it has is not all
    assert [call[0] for call in good.calls] == 2 * ["open", "curve", "curve", "figures", "close"]
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "memory failed (ConnectionError: no route)" in warning.getMessage()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_run_s_own_errors_pass_and_the_run_is_closed_as_not_done(error, tracked, records):
    memory = Memory()
    with pytest.raises(error), Sinks([memory]).open(tracked) as log:
        log.curve("dense", records(1))
        raise error
    assert memory.calls[-1] == ("close", False)


def test_without_sinks_a_run_is_not_even_described():
    with Sinks([]).open(lambda: pytest.fail("described")) as log:
        log.curve("dense", [])
        log.finish({})


def test_points_leave_out_what_was_not_measured_and_have_names_for_every_sink(records):
    found = [(point.key, point.step, point.value) for point in points("dense", records(1))]
    assert found == [("dense/epoch", 4, 0.5), ("dense/train_loss", 4, 1.0), ("dense/lr", 4, 0.1)]
    assert [point.key for point in finals({"scratch-B, 2x/loss": 1})] == ["final/scratch-B_2x/loss"]


def test_a_run_keeps_its_key_until_its_inputs_change(tmp_path):
    key = identity(tmp_path, "a")
    assert identity(tmp_path, "a") == key
    assert identity(tmp_path / "other", "a") != key
    assert identity(tmp_path, "b") != key


def test_another_name_of_a_sink_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"log must be mlflow.*'mlflw:x'.*Did you mean 'mlflow'"):
        sink("mlflw:x", tmp_path)


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_a_missing_package_is_named_before_anything_is_done(name, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'prunus\[{name}\]'"):
        sink(name, tmp_path)
