import logging
import time

import pytest

from prunus.tracking import MLflow, Sinks, sink

pytest.importorskip("mlflow", reason="needs mlflow")
pytest.importorskip("sqlalchemy", reason="needs sqlalchemy")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.parametrize("store", ["file", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_a_run_that_goes_on_has_each_point_once_in_one_run(
    store, tracked, records, tmp_path, monkeypatch
):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)  # where MLflow keeps the artifacts of a database
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"{store}://{'' if store == 'file' else '/'}{tmp_path / 'mlflow'}"
    page = tmp_path / "report.html"
    page.write_text("<p>it went well</p>")
    client = MlflowClient(uri)

    def runs():
        ids = [one.experiment_id for one in client.search_experiments() if one.name == "lenet"]
        return client.search_runs(ids)

    with (
        pytest.raises(KeyboardInterrupt),
        Sinks([sink(f"mlflow:{uri}", tmp_path)]).open(tracked) as log,
    ):
        log.curve("dense", records(2))
        raise KeyboardInterrupt
    assert [run.info.status for run in runs()] == ["KILLED"]
    for _ in range(2):
        with Sinks([MLflow(uri)]).open(tracked) as log:
            log.curve("dense", records(1))
            log.curve("dense", records(3))
            log.finish({"fine-tuned/accuracy": 0.75}, page)
    (run,) = runs()
    history = client.get_metric_history(run.info.run_id, "dense/train_loss")
    assert sorted((m.step, m.value) for m in history) == [
        (4, 1),
        (8, 0.5),
        (12, pytest.approx(1 / 3)),
    ]
    assert len(client.get_metric_history(run.info.run_id, "final/fine-tuned/accuracy")) == 1
    assert run.data.metrics["final/fine-tuned/accuracy"] == 0.75
    assert run.data.params == {"seed": "0", "train.lr": "0.1"}
    assert run.info.run_name == "lenet-1a2b/seed-0"
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]


def test_a_server_out_of_reach_costs_a_warning_and_little_time(tracked, records, caplog):
    start = time.monotonic()
    with Sinks([sink("mlflow:http://127.0.0.1:9", None)]).open(tracked) as log:
        for count in (1, 2, 3):
            log.curve("dense", records(count))
    warnings = [one for one in caplog.records if one.name == "prunus"]
    assert [one.levelno for one in warnings] == [logging.WARNING]
    assert "MLflow failed" in warnings[0].getMessage()
    assert time.monotonic() - start < 60
