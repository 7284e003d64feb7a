"""Training runs in MLflow: a database in the folder of the run, or where MLflow's variables say."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from samnet.training.tracking.backend import TrackedRun, as_text, plain_name

_LONGEST_VALUE = 500  # characters that any server takes
# Read when mlflow is imported, and left as they are where the user has set them. A server that does
# not answer must not hold up the training for minutes.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
for _name, _value in _QUIET.items():
    os.environ.setdefault(_name, _value)

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric, Param, RunTag  # noqa: E402


class MLflowRun:
    """A `Backend` that is a run of MLflow, in the experiment of the data set's name.

    Attributes:
        identifier: The id of the run.
    """

    def __init__(self, run: TrackedRun) -> None:
        """Begin a run, or resume the one of an earlier session.

        Args:
            run: The run.
        """
        address = os.environ.get("MLFLOW_TRACKING_URI")
        folder = run.folder.absolute()
        # Files in the place of artifacts are local where the database is.
        artifacts = None if address else (folder / "artifacts").as_uri()
        self._client = MlflowClient(tracking_uri=address or f"sqlite:///{folder / 'mlflow.db'}")
        if run.identifier is not None:
            self.identifier = run.identifier
            self._client.update_run(run.identifier, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.dataset
        known = self._client.get_experiment_by_name(name)
        if known is None:
            experiment = self._client.create_experiment(name, artifact_location=artifacts)
        else:
            experiment = known.experiment_id
        self.identifier = self._client.create_run(experiment, run_name=run.name).info.run_id

    def add_parameters(self, values: Mapping[str, str | float], step: int) -> None:
        """Add the values as parameters. MLflow's never change: a new value becomes a tag.

        Args:
            values: Numbers and texts by name.
            step: The step from which they hold.
        """
        known = self._client.get_run(self.identifier).data.params
        new, changed = [], []
        for name, value in values.items():
            text = as_text(value)[:_LONGEST_VALUE]
            if name not in known:
                new.append(Param(name, text))
            elif known[name] != text:
                changed.append(RunTag(f"from step {max(step, 0)}: {name}", text))
        self._client.log_batch(self.identifier, params=new, tags=changed)

    def add_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add the numbers of an epoch.

        Args:
            values: Numbers by name.
            step: The number of steps done.
        """
        now = int(1000 * time.time())
        metrics = [Metric(plain_name(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self.identifier, metrics=metrics)

    def add_figure(self, name: str, file: Path, step: int) -> None:
        """Add a figure as an artifact, in a folder of the step.

        Args:
            name: Its name.
            file: A PNG file.
            step: The number of steps done.
        """
        folder = "/".join([f"step_{step}", *name.split("/")[:-1]])
        self._client.log_artifact(self.identifier, str(file), folder)

    def close(self, *, is_complete: bool) -> None:
        """Set the state of the run.

        Args:
            is_complete: Whether the run is finished; else it counts as stopped until it is resumed.
        """
        self._client.set_terminated(self.identifier, "FINISHED" if is_complete else "KILLED")
