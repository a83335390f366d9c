"""The MLflow client: one run and one registered version per bundle, however often a bundle is logged.

Only the sync process imports this module, since it imports MLflow. Everything is looked up before it is created, and
duplicates (from a retried request whose first attempt had arrived) are removed, so the next attempt cleans up after a
crash or a lost response.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rayonnage_shared.sync.base import SyncTargetUnavailable
from rayonnage_shared.sync.mlflow.address import check_reachable, redacted, sqlite_path
from rayonnage_shared.sync.mlflow.pyfunc_model import save_pyfunc
from rayonnage_shared.sync.mlflow.record import MODEL_DESCRIPTION, VERSION_TAG, BundleRecord, Point
from rayonnage_shared.sync.mlflow.settings import MlflowSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

ON_VOLUME_TAG = "rayonnage.on_volume"
CHAMPION_ALIAS = "champion"
BATCH = 500  # MLflow accepts 1000 metrics, 100 parameters and 100 tags per call
REGISTRATION_WAIT_S = 10


@dataclass(frozen=True, slots=True)
class Logged:
    """The run and registered version of a bundle."""

    run_id: str
    registry_version: str


def connect(settings: MlflowSettings) -> TrackingStore:
    """Return a client for the configured MLflow. Raises SyncTargetUnavailable within seconds if it does not answer."""
    uri = settings.mlflow_tracking_uri
    assert uri is not None, "a sync target is only created with an address"
    file = sqlite_path(uri)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    else:
        check_reachable(uri)
    _prepare_environment(settings)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns about a missing pip and about deprecations
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with away(uri):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        return TrackingStore(mlflow.MlflowClient(uri, uri), settings)


def _prepare_environment(settings: MlflowSettings) -> None:
    """Set the environment variables that MLflow reads at import; telemetry is disabled."""
    values = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(settings.mlflow_http_request_timeout),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(settings.mlflow_http_request_max_retries),
    }
    if settings.mlflow_tracking_username:
        values["MLFLOW_TRACKING_USERNAME"] = settings.mlflow_tracking_username
    if settings.mlflow_tracking_password:
        values["MLFLOW_TRACKING_PASSWORD"] = settings.mlflow_tracking_password.get_secret_value()
    os.environ.update(values)


@contextmanager
def away(uri: str) -> Iterator[None]:
    """Turn MLflow's connection and server errors into SyncTargetUnavailable."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except (OSError, OperationalError) as error:  # `requests` raises OSError, and so does a full disk
        raise SyncTargetUnavailable(f"MLflow at {redacted(uri)} failed: {error}") from error
    except MlflowException as error:
        if error.get_http_status_code() < 500:
            raise
        raise SyncTargetUnavailable(f"MLflow at {redacted(uri)} failed: {error.message}") from error


def _found(act: Callable[[], None]) -> bool:
    """Return whether the object existed in MLflow."""
    from mlflow.exceptions import MlflowException

    try:
        act()
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


class TrackingStore:
    """MLflow's runs and registry. Every method raises SyncTargetUnavailable when MLflow cannot be reached."""

    def __init__(self, client: MlflowClient, settings: MlflowSettings) -> None:
        self._client = client
        self._settings = settings
        self._uri = settings.mlflow_tracking_uri or ""

    def ready(self) -> None:
        """Create the tables of a new store."""
        with away(self._uri):
            self._client.search_experiments(max_results=1)

    def log_bundle(self, record: BundleRecord) -> Logged:
        """Log the bundle: a complete run, and a version in the model registry."""
        with away(self._uri):
            run = self._run(VERSION_TAG, record.version, start_ms=record.started_ms, name=record.version)
            run_id = run.info.run_id
            self._describe(run_id, record)
            model = self._model(run, record)
            self._log_points(run_id, record.points, model_id=model.model_id)
            registry_version = self._register(run_id, model, record)
            self._client.set_terminated(run_id, "FINISHED", record.created_ms)
            return Logged(run_id, registry_version)

    def point_champion(self, registry_version: str) -> bool:
        """Move the alias `champion` to this registered version; return False if the version does not exist."""
        name = self._settings.mlflow_model_name
        with away(self._uri):
            return _found(lambda: self._client.set_registered_model_alias(name, CHAMPION_ALIAS, registry_version))

    def mark_volume(self, registry_version: str, *, on_volume: bool) -> None:
        """Tag a registered version, if it exists, with whether its bundle is still on the model volume."""
        name, value = self._settings.mlflow_model_name, str(on_volume).lower()
        with away(self._uri):
            _found(lambda: self._client.set_model_version_tag(name, registry_version, ON_VOLUME_TAG, value))

    def log_points(self, tag: str, value: str, points: list[Point], *, start_ms: int) -> str:
        """Add points to the long-lived run with this tag and return its id. The same point twice counts once."""
        with away(self._uri):
            run_id: str = self._run(tag, value, start_ms=start_ms, name=value).info.run_id
            self._log_points(run_id, points)
            return run_id

    def _experiment(self) -> str:
        name = self._settings.mlflow_experiment_name
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        is_file = sqlite_path(self._uri) is not None
        # A server chooses its own location, so that files go through it.
        location = self._settings.mlflow_artifacts_path.resolve().as_uri() if is_file else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _run(self, tag: str, value: str, *, start_ms: int, name: str) -> Run:
        experiment = self._experiment()
        found = self._runs(experiment, tag, value)
        if not found:
            self._client.create_run(experiment, start_time=start_ms, tags={tag: value}, run_name=name)
            found = self._runs(experiment, tag, value)
        first, *twins = found
        for twin in twins:
            self._client.delete_run(twin.info.run_id)
        return first

    def _runs(self, experiment: str, tag: str, value: str) -> list[Run]:
        runs = self._client.search_runs([experiment], filter_string=f"tags.`{tag}` = '{value}'")
        return sorted(runs, key=lambda run: str(run.info.run_id))  # any order, the same for everyone

    def _describe(self, run_id: str, record: BundleRecord) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        params = [Param(name, value) for name, value in record.params.items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(run_id, params=params[start : start + 100])
        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in record.tags.items()])
        dataset = record.dataset
        entity = Dataset(
            name=dataset.name,
            digest=dataset.digest,
            source_type="local",
            source=dataset.source,
            profile=dataset.profile,
        )
        self._client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])
        for path in record.artifacts:
            if path.is_dir():
                self._client.log_artifacts(run_id, str(path), path.name)
            else:
                self._client.log_artifact(run_id, str(path))

    def _model(self, run: Run, record: BundleRecord) -> LoggedModel:
        """Return the run's complete model; the remains of an interrupted attempt are removed."""
        from mlflow.entities import LoggedModelOutput

        experiment, run_id = run.info.experiment_id, run.info.run_id
        found = self._client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
        complete = sorted((one for one in found if str(one.status) == "READY"), key=lambda one: str(one.model_id))
        for one in found:
            if not complete or one.model_id != complete[0].model_id:
                self._client.delete_logged_model(one.model_id)
        if complete:
            return complete[0]
        model = self._client.create_logged_model(
            experiment, name=self._settings.mlflow_model_name, source_run_id=run_id, tags=record.tags
        )
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "model"
            save_pyfunc(record.folder, target, run_id=run_id, model_id=model.model_id)
            self._client.log_model_artifacts(model.model_id, str(target))
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return self._client.finalize_logged_model(model.model_id, "READY")

    def _log_points(self, run_id: str, points: list[Point], model_id: str | None = None) -> None:
        from mlflow.entities import Metric

        # MLflow stores a metric with the same value, step and time once, so repeating this is harmless.
        metrics = [Metric(one.name, one.value, one.at_ms, one.step, model_id=model_id) for one in points]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    def _register(self, run_id: str, model: LoggedModel, record: BundleRecord) -> str:
        from mlflow.exceptions import MlflowException

        name = self._settings.mlflow_model_name
        try:
            self._client.create_registered_model(name, description=MODEL_DESCRIPTION)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            if not self._client.get_registered_model(name).description:  # somebody's own words stay
                self._client.update_registered_model(name, MODEL_DESCRIPTION)
        found = self._registered(run_id)
        if not found:
            self._client.create_model_version(
                name,
                source=f"models:/{model.model_id}",
                run_id=run_id,
                tags=record.tags | {ON_VOLUME_TAG: "true"},
                description=record.description,
                await_creation_for=REGISTRATION_WAIT_S,
                model_id=model.model_id,
            )
            found = self._registered(run_id)
        first, *twins = found
        for twin in twins:
            self._client.delete_model_version(name, str(twin))
        return str(first)

    def _registered(self, run_id: str) -> list[int]:
        name = self._settings.mlflow_model_name
        found = self._client.search_model_versions(f"run_id = '{run_id}'")
        return sorted(int(one.version) for one in found if one.name == name)
