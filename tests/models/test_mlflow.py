"""Bundles go to a real MLflow: an SQLite file and a server, up, down and killed in the middle."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from sqlalchemy import Engine

from rayonnage_shared.database.engine import migrate, open_database, writing
from rayonnage_shared.database.tables import PredictionRow
from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.bundles.bundle import load_bundle
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.ml.bundles.manifest import creation_time, list_versions
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_shared.ml.training.requests import TrainRequest
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_shared.pipelines.settings import PipelineSettings
from rayonnage_shared.pipelines.training import train
from rayonnage_shared.predictions.inference import predict_product
from rayonnage_shared.registry.promotion import promote, rollback
from rayonnage_shared.sync.base import SyncTarget, SyncTargetUnavailable
from rayonnage_shared.sync.mlflow.client import TrackingStore, connect
from rayonnage_shared.sync.mlflow.record import MODEL_DESCRIPTION
from rayonnage_shared.sync.mlflow.target import MlflowTarget
from rayonnage_shared.sync.mlflow.traffic import RUN_NAME, TrafficTarget
from rayonnage_shared.sync.runner import Result, sync
from rayonnage_shared.sync.settings import SyncSettings
from tests.models.mlflow_server import MlflowServer, mlflow_server
from tests.processes import killed_at_end
from tests.sample import write_first_rows
from tests.waiting import PATIENCE_S, eventually

pytestmark = [
    pytest.mark.models,
    # MLflow's own: it leaves database connections to the garbage collector and calls what its libraries deprecate.
    pytest.mark.filterwarnings("ignore"),
]

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "sample"
ROWS = 400
PRODUCTS: list[dict[str, str | None]] = [
    {"designation": "Piscine gonflable ronde", "description": "pour enfant"},
    {"designation": "Console portable", "description": None},
    {"designation": None, "description": "<b>Roman</b> policier, broché"},
    {"designation": None, "description": None},
]

PREDICT = """
import json, sys, mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/rayonnage@champion")
frame = pandas.DataFrame(json.loads(sys.argv[2]))
print(json.dumps(model.predict(frame).to_dict("records")))
"""


@dataclass(frozen=True)
class Shop:
    """A platform's folders and database, and where its MLflow is."""

    home: Path
    tracking_uri: str

    @property
    def settings(self) -> SyncSettings:
        return SyncSettings(
            models_path=self.home / "models",
            data_path=self.home / "data",
            database_url=f"sqlite:///{self.home}/rayonnage.db",
            mlflow_tracking_uri=self.tracking_uri,
            mlflow_artifacts_path=self.home / "mlflow-artifacts",
            mlflow_http_request_timeout=20,
            dvc_remote_url=None,
        )

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def versions(self) -> list[str]:
        """The bundles on the volume, oldest first."""
        return list_versions(self.models)[::-1]

    @property
    def client(self) -> Any:
        """MLflow as anybody sees it."""
        import mlflow

        mlflow.set_tracking_uri(self.tracking_uri)
        return mlflow.MlflowClient(self.tracking_uri, self.tracking_uri)

    @property
    def environment(self) -> dict[str, str]:
        settings = self.settings
        return os.environ | {
            "MODELS_PATH": str(self.models),
            "DATA_PATH": str(self.home / "data"),
            "DATABASE_URL": settings.database_url,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_ARTIFACTS_PATH": str(settings.mlflow_artifacts_path),
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
            "DVC_REMOTE_URL": "",
            "LOGS_PATH": str(self.home / "logs"),
            "LOG_TO_STDOUT": "false",
        }

    def engine(self) -> Engine:
        return open_database(self.settings.database_url)

    def start(self, *module: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", *module], cwd=self.home, env=self.environment)

    def follow_in_child(self) -> int:
        """Run the target as the worker does and return its exit status."""
        return self.start("rayonnage_train.sync").wait(300)

    def sync(self) -> None:
        """Run the target here, which spares ten seconds of imports."""
        (result,) = results(self.settings, MlflowTarget(self.settings))
        assert result.status == "done", result.detail

    def runs(self) -> dict[str, list[Any]]:
        """Return the runs by bundle version."""
        found: dict[str, list[Any]] = {}
        experiment = self.client.get_experiment_by_name("rayonnage")
        for run in self.client.search_runs([experiment.experiment_id]) if experiment else []:
            found.setdefault(run.data.tags.get("rayonnage.version", ""), []).append(run)
        return found

    def registered(self) -> dict[str, str]:
        """Return the registered versions by bundle version; twins would show as a wrong count."""
        found = self.client.search_model_versions("name = 'rayonnage'")
        named = {one.tags["rayonnage.version"]: str(one.version) for one in found}
        assert len(named) == len(found), "a bundle was registered twice"
        return named

    def alias(self) -> str:
        """Return the bundle version that MLflow's alias `champion` is at."""
        return str(self.client.get_model_version_by_alias("rayonnage", "champion").tags["rayonnage.version"])

    def assert_followed(self) -> None:
        """Every bundle has one finished run, one complete model and one registered version; the alias is right."""
        experiment = self.client.get_experiment_by_name("rayonnage")
        models = self.client.search_logged_models([experiment.experiment_id])
        runs = self.runs()
        assert {version: len(found) for version, found in runs.items()} == dict.fromkeys(self.versions, 1)
        assert all(run.info.status == "FINISHED" for (run,) in runs.values())
        assert all(run.info.end_time > run.info.start_time for (run,) in runs.values())
        assert sorted(model.source_run_id for model in models) == sorted(run.info.run_id for (run,) in runs.values())
        assert all(str(model.status) == "READY" for model in models)
        assert sorted(self.registered()) == self.versions
        champion = read_champion(self.models)
        assert champion is not None
        assert self.alias() == champion.version


def results(settings: SyncSettings, *chosen: SyncTarget) -> list[Result]:
    return sync(settings, lambda sentence: None, chosen)


def train_one(home: Path, job_id: str, promote: str = "always") -> str:
    engine = open_database(f"sqlite:///{home}/rayonnage.db")
    migrate(engine)
    result = train(
        TrainRequest.model_validate({"text": "tfidf-svm", "image": None, "promote": promote}),
        RunContext(
            settings=PipelineSettings(models_path=home / "models", data_path=home / "data"),
            engine=engine,
            job_id=job_id,
            submitted_by="jane",
            stage=lambda name: None,
            progress=silent,
        ),
    )
    engine.dispose()
    return str(result["version"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two text bundles, the second of them the champion."""
    home = write_first_rows(tmp_path_factory.mktemp("trained"), ROWS)
    ingest(
        DatasetStore(home / "data"),
        home / "features.csv",
        home / "target.csv",
        None,
        allow_new_codes=False,
        demo=True,
        categories=load_categories(None),
    )
    for job_id in ("one", "two"):
        train_one(home, job_id)
        time.sleep(1.1)  # versions are named by the second
    # Every test's copy begins with MLflow's tables, which take seconds to make.
    connect(Shop(home, f"sqlite:///{home}/mlflow.db").settings).ready()
    return home


@pytest.fixture
def shop(trained: Path, tmp_path: Path) -> Shop:
    """A copy of that home with an MLflow in an SQLite file."""
    shutil.copytree(trained, tmp_path / "home")
    return Shop(tmp_path / "home", f"sqlite:///{tmp_path}/home/mlflow.db")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    """A server that is down."""
    (tmp_path / "server").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with mlflow_server(tmp_path / "server", port) as made:
        yield made


def test_a_run_tells_all_of_its_bundle(shop: Shop) -> None:
    version = shop.versions[0]
    folder = shop.models / version
    manifest = json.loads((folder / "manifest.json").read_text())

    assert shop.follow_in_child() == 0

    shop.assert_followed()
    ((run,), client) = shop.runs()[version], shop.client
    assert run.info.run_name == version
    assert run.info.start_time == 1000 * creation_time(version).timestamp()
    assert run.info.end_time == 1000 * datetime.fromisoformat(manifest["created_at"]).timestamp()
    assert run.info.end_time > run.info.start_time, "a training takes more than a second"
    assert run.data.params["text_family"] == "tfidf-svm"
    assert run.data.params["seed"] == "0"
    assert run.data.metrics["f1_macro"] == pytest.approx(manifest["metrics"]["f1_macro"])
    assert run.data.tags["rayonnage.demo"] == "true"
    assert run.data.tags["rayonnage.submitted_by"] == "jane"
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == manifest["dataset"]["version"]
    assert manifest["dataset"]["sha256"].startswith(dataset.dataset.digest)
    artifacts = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert {"manifest.json", "evaluation.json"} <= artifacts
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {Path(one.path).name for one in client.list_artifacts(run.info.run_id, "figures")} == figures
    assert "confusion.png" in figures
    curves = json.loads((folder / "evaluation.json").read_text())["curves"]
    assert curves
    for curve in curves:
        name = f"curve.{curve['modality']}.{curve['figure']}.held_out"
        history = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in sorted(history, key=lambda point: point.step)] == curve["x"]
    (model,) = (
        one for one in client.search_logged_models([run.info.experiment_id]) if one.source_run_id == run.info.run_id
    )
    assert {metric.key for metric in model.metrics} >= {"accuracy", "f1_macro"}


def test_the_pages_of_model_version_and_run_say_what_it_is_and_how_to_promote_it(shop: Shop) -> None:
    shop.sync()

    client, version = shop.client, shop.versions[0]
    model = client.get_registered_model("rayonnage")
    assert model.description == MODEL_DESCRIPTION
    registered = client.get_model_version("rayonnage", shop.registered()[version])
    manifest = json.loads((shop.models / version / "manifest.json").read_text())
    assert "text `tfidf-svm`" in registered.description
    assert f"| macro F1 | {manifest['metrics']['f1_macro']:.3f} |" in registered.description
    assert manifest["dataset"]["version"] in registered.description
    assert f"rayonnage promote {version}" in registered.description
    (run,) = shop.runs()[version]
    assert run.data.tags["mlflow.note.content"] == registered.description


def test_a_description_that_somebody_wrote_stays_and_an_empty_one_is_filled(shop: Shop) -> None:
    client = shop.client
    client.create_registered_model("rayonnage")
    shop.sync()
    assert client.get_registered_model("rayonnage").description == MODEL_DESCRIPTION

    client.update_registered_model("rayonnage", "Ask Jane.")
    train_one(shop.home, "three")
    shop.sync()
    assert client.get_registered_model("rayonnage").description == "Ask Jane."


def test_the_alias_follows_promotion_and_rollback(shop: Shop) -> None:
    first, second = shop.versions
    shop.sync()
    assert shop.alias() == second
    engine = shop.engine()

    rollback(shop.models, engine, "jane", "it was worse")
    shop.sync()
    assert shop.alias() == first

    promote(shop.models, engine, second, "jane", "better after all")
    shop.sync()
    engine.dispose()
    assert shop.alias() == second
    shop.assert_followed()


def test_a_pruned_bundle_stays_registered_and_says_that_it_is_gone(shop: Shop) -> None:
    first, second = shop.versions
    shop.sync()
    shutil.rmtree(shop.models / first)

    shop.sync()

    tags = {
        one.tags["rayonnage.version"]: one.tags["rayonnage.on_volume"] for one in shop.client.search_model_versions()
    }
    assert tags == {first: "false", second: "true"}
    assert shop.alias() == second


def test_the_registered_model_predicts_what_the_bundle_predicts(shop: Shop) -> None:
    shop.sync()
    command = [sys.executable, "-W", "ignore", "-c", PREDICT, shop.tracking_uri, json.dumps(PRODUCTS)]
    answer = subprocess.run(command, cwd=shop.home, capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(answer.stdout.splitlines()[-1])

    champion = read_champion(shop.models)
    assert champion is not None
    bundle = load_bundle(shop.models, champion.version)
    for row, product in zip(found[:3], PRODUCTS, strict=False):
        timed = predict_product(bundle, load_categories(None), product["designation"], product["description"], None)
        own = timed.prediction
        assert (row["predicted"], row["label"], row["decision"]) == (own.predicted, own.label, own.decision)
        assert row["probability"] == pytest.approx(own.confidence, abs=1e-6)
    assert found[3]["predicted"] == ""
    assert "no photo" in found[3]["error"]


def test_a_photo_is_taken_as_base64(shop: Shop) -> None:
    import pandas

    from rayonnage_shared.sync.mlflow.pyfunc_model import BundleModel

    model = BundleModel(load_bundle(shop.models, shop.versions[0]))
    photo = base64.b64encode((SAMPLE / "exemple.jpg").read_bytes()).decode()
    frame = pandas.DataFrame({"designation": ["Console"] * 3, "image": [photo, f"data:image/jpeg;base64,{photo}", "?"]})

    rows = model.predict(frame).to_dict("records")

    assert rows[0] == rows[1]
    assert rows[0]["predicted"]
    assert "base64" in rows[2]["error"]


class Killed(BaseException):
    """Stands for kill -9: nothing in the product may catch it."""


class Deadly:
    """MLflow's client for a process that dies at its nth call, before it or when the answer is on its way."""

    def __init__(self, client: Any, left: int, *, after: bool) -> None:
        self._client, self._left, self._after = client, left, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            answer = real(*arguments, **options)
            if self._left == 0:
                raise Killed
            return answer

        return call


@pytest.mark.parametrize("after", [False, True], ids=["before a call", "before its answer"])
def test_a_sync_killed_at_any_call_leaves_no_duplicates(shop: Shop, after: bool) -> None:
    def dies_at(call: int) -> Any:
        def deadly(settings: SyncSettings) -> TrackingStore:
            client = connect(settings)._client
            return TrackingStore(cast(Any, Deadly(client, call, after=after)), settings)

        return deadly

    deaths = 0
    while True:
        try:
            MlflowTarget(shop.settings, dies_at(deaths + 1)).sync(lambda sentence: None)
            break
        except Killed:
            deaths += 1

    assert deaths > 15
    shop.assert_followed()


def test_a_server_that_is_down_costs_seconds_and_training_goes_on(shop: Shop, server: MlflowServer) -> None:
    shop = Shop(shop.home, server.url)
    began = time.monotonic()
    with pytest.raises(SyncTargetUnavailable):
        MlflowTarget(shop.settings).sync(lambda sentence: None)
    assert time.monotonic() - began < PATIENCE_S, "MLflow's client would try for four minutes"
    assert shop.follow_in_child() == os.EX_TEMPFAIL

    third = train_one(shop.home, "three")

    champion = read_champion(shop.models)
    assert champion is not None
    assert champion.version == third
    server.start()
    shop.sync()
    shop.assert_followed()
    assert shop.alias() == third


def test_a_server_that_goes_silent_is_given_up_within_its_time_out(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silence:
        settings = shop.settings.model_copy(
            update={
                "mlflow_tracking_uri": f"http://127.0.0.1:{silence.getsockname()[1]}",
                "mlflow_http_request_timeout": 1,
                "mlflow_http_request_max_retries": 0,
            }
        )
        began = time.monotonic()
        (result,) = results(settings, MlflowTarget(settings))
    assert result.status == "away"
    assert time.monotonic() - began < PATIENCE_S, "MLflow's client would wait for two minutes each time"


def test_a_child_killed_in_the_middle_leaves_one_run_for_each_bundle(shop: Shop, server: MlflowServer) -> None:
    shop = Shop(shop.home, server.url)
    server.start()

    def count() -> int:
        return sum(len(runs) for runs in shop.runs().values())

    for delay in (0.0, 0.3):
        with killed_at_end(shop.start("rayonnage_train.sync")) as child:
            seen = count()
            assert eventually(lambda: child.poll() is not None or count() != seen or seen >= 2)  # noqa: B023
            time.sleep(delay)

    shop.sync()

    shop.assert_followed()


def test_the_server_of_make_mlflow_shows_what_was_written_to_the_file(shop: Shop, server: MlflowServer) -> None:
    shop.sync()
    server.store, server.folder = shop.tracking_uri, shop.home
    server.start()
    seen = Shop(shop.home, server.url)

    seen.assert_followed()
    (run,) = seen.runs()[shop.versions[0]]
    assert server.status(f"/get-artifact?path=manifest.json&run_id={run.info.run_id}") == 200
    assert server.status("/") == 200
    assert server.status("/", host="elsewhere.example") == 403
    third = train_one(shop.home, "three")
    shop.sync()
    assert seen.alias() == third


def test_settings_that_turn_to_the_server_over_the_same_file_make_no_twins(shop: Shop, server: MlflowServer) -> None:
    shop.sync()
    server.store, server.folder = shop.tracking_uri, shop.home
    server.start()
    shop = Shop(shop.home, server.url)
    train_one(shop.home, "three")

    shop.sync()

    shop.assert_followed()


def test_the_worker_tells_mlflow_by_itself(shop: Shop) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = shop.environment | {"TRAIN_WORKER_METRICS_PORT": str(port)}
    command = [sys.executable, "-m", "rayonnage_train.worker"]
    with killed_at_end(subprocess.Popen(command, cwd=shop.home, env=environment)) as worker:
        assert eventually((shop.models / ".synced" / "mlflow" / "champion.json").exists)
        worker.terminate()
        assert worker.wait(PATIENCE_S) == 0
    shop.assert_followed()


def test_the_apis_metrics_are_one_run_that_grows(shop: Shop) -> None:
    engine = shop.engine()
    start = 1_790_000_000 - 1_790_000_000 % 300
    generator = np.random.default_rng(0)

    def predict(span: int) -> None:
        with writing(engine) as session:
            for number in range(50):
                session.add(
                    PredictionRow(
                        prediction_id=f"{span}-{number}",
                        created_at=datetime.fromtimestamp(start + 300 * span + number, UTC),
                        version=shop.versions[0],
                        username="jane",
                        request_id="r",
                        has_image=False,
                        category_id=10,
                        confidence=float(generator.random()),
                        decision="accept",
                        duration_ms=float(number),
                    )
                )

    for span in (0, 1):
        predict(span)
        target = TrafficTarget(shop.settings, clock=partial(float, start + 300 * (span + 1) + 20))
        assert [one.status for one in results(shop.settings, target)] == ["done"]
    engine.dispose()

    (run,) = (run for runs in shop.runs().values() for run in runs if run.info.run_name == RUN_NAME)
    history = shop.client.get_metric_history(run.info.run_id, "requests")
    assert [(point.step, point.value) for point in history] == [(start + 300, 50), (start + 600, 50)]
    assert f"{shop.versions[0]}/duration_p95_ms" in run.data.metrics
    assert run.data.metrics["requests_per_second"] == pytest.approx(50 / 300)


def test_the_command_line_syncs_and_reports_what_is_left(shop: Shop, server: MlflowServer) -> None:
    command = [str(Path(sys.executable).parent / "rayonnage"), "sync", "mlflow"]
    away = shop.environment | {"MLFLOW_TRACKING_URI": server.url}

    failed = subprocess.run(command, cwd=shop.home, env=away, capture_output=True, text=True, check=False)
    done = subprocess.run(command, cwd=shop.home, env=shop.environment, capture_output=True, text=True, check=False)
    again = subprocess.run(
        [*command, "--again"], cwd=shop.home, env=shop.environment, capture_output=True, text=True, check=False
    )

    assert (failed.returncode, done.returncode, again.returncode) == (1, 0, 0)
    assert "mlflow: away" in failed.stdout
    assert "mlflow: done" in done.stdout
    assert "Traceback" not in failed.stderr + done.stderr
    shop.assert_followed()
