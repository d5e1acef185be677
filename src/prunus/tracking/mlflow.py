"""MLflow: runs in experiments, on a server or in a database here."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.tracking.sink import Point, Tracked, finals, plain, points

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TAG = "prunus.key"
_VALUE = 500  # characters of a parameter that every server takes
_PARAMETERS, _METRICS = 100, 1000  # that one request may have

# How long training waits for a server, and what MLflow's client does unasked; the user's own
# settings count before these.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MLflow:
    """Logs to MLflow: an experiment per recipe or study, in it a run per run or network.

    Args:
        uri: Of a server or database, such as "http://host:5000" or "sqlite:///mlflow.db"; by
            default MLflow's own, as MLFLOW_TRACKING_URI says.

    Raises:
        ModuleNotFoundError: MLflow is not installed.
    """

    title = "MLflow"

    def __init__(self, uri: str | None = None) -> None:
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        try:
            import mlflow
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "logging to MLflow needs its client; pip install 'prunus[mlflow]'."
            ) from error
        self._uri = uri or mlflow.get_tracking_uri()
        self._client: MlflowClient | None = None

    def open(self, tracked: Tracked) -> "MLflowSession":
        """Begin a run, or go on with it; raises as MLflow does."""
        from mlflow import MlflowClient

        client = self._client = self._client or MlflowClient(self._uri)
        known = client.get_experiment_by_name(tracked.group)
        experiment = known.experiment_id if known else client.create_experiment(tracked.group)
        found = client.search_runs([experiment], f"tags.`{_TAG}` = '{tracked.key}'", max_results=1)
        if found:
            run = found[0].info.run_id
            client.update_run(run, status="RUNNING")
        else:
            tags = {_TAG: tracked.key}
            run = client.create_run(experiment, tags=tags, run_name=tracked.name).info.run_id
        return MLflowSession(client, run, tracked.parameters)


class MLflowSession:
    """One run of MLflow's.

    Args:
        client: Reaches the server.
        run: The run's id there.
        parameters: Name -> value.
    """

    def __init__(self, client: "MlflowClient", run: str, parameters: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._client, self._run = client, run
        there = client.get_run(run).data
        self._last = {key: self._newest(key) for key in there.metrics}
        fresh = [
            Param(plain(name), str(value)[:_VALUE])
            for name, value in parameters.items()
            if plain(name) not in there.params
        ]
        for begin in range(0, len(fresh), _PARAMETERS):
            client.log_batch(run, params=fresh[begin : begin + _PARAMETERS])

    def curve(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Log a training."""
        self._send(list(points(name, records)))

    def figures(self, values: Mapping[str, float]) -> None:
        """Log what the run found in the end."""
        self._send(finals(values))

    def report(self, page: Path) -> None:
        """Keep the report as an artifact."""
        self._client.log_artifact(self._run, str(page))

    def close(self, *, done: bool) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._run, "FINISHED" if done else "KILLED")

    def _send(self, given: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        fresh = [
            Metric(point.key, point.value, now, point.step)
            for point in given
            if point.step > self._last.get(point.key, -1)
        ]
        for begin in range(0, len(fresh), _METRICS):
            self._client.log_batch(self._run, metrics=fresh[begin : begin + _METRICS])
        self._last |= {metric.key: metric.step for metric in fresh}

    def _newest(self, key: str) -> int:
        history = self._client.get_metric_history(self._run, key)
        return max((metric.step for metric in history), default=-1)
