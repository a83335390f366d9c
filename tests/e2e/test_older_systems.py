"""What users of the older systems look for, over real processes: routes, commands, data stages and settings."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rayonnage_shared.ops.older_settings import OLDER_SETTINGS
from tests.e2e.api import start_training
from tests.e2e.auth_process import auth_process
from tests.e2e.command_line import rayonnage
from tests.e2e.local_run import Run
from tests.e2e.platform import Platform
from tests.http_server import serving
from tests.sample import write_first_rows

ROOT = Path(__file__).parents[2]
TESTER, PASSWORD = "tester", "correct-horse-battery"
ROWS = 80


def printed(home: Path, *arguments: str, **settings: str) -> str:
    """Run a command that must succeed in `home`, and return what it printed."""
    variables = {"MLFLOW_TRACKING_URI": "", "DVC_REMOTE_URL": "", **settings}
    done = rayonnage(home, *arguments, variables=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Started:
    """A platform that `rayonnage up` started with settings of system C, and what it printed."""

    run: Run
    platform: Platform
    admin: httpx2.Client

    @property
    def home(self) -> Path:
        return self.run.home


@pytest.fixture(scope="module")
def started(trained_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    run = Run(tmp_path_factory.mktemp("older"))
    shutil.copytree(trained_volume, run.home, dirs_exist_ok=True)
    run.environment |= {
        "TEST_USER": TESTER,
        "TEST_USER_PASSWORD": PASSWORD,
        "MAPPER_PATH": "models/mapper.json",
        "PREDICT_RATE_LIMIT": "off",
        "MLFLOW_TRACKING_URI": "",
        "DVC_REMOTE_URL": "",
    }
    try:
        run.up_and_ready()
        platform = Platform(run.supervisor())
        with platform.client(platform.admin_token()) as admin:
            yield Started(run, platform, admin)
    finally:
        run.end()


def test_a_start_names_an_older_setting_once_with_its_successor(started: Started) -> None:
    named = [line for line in started.run.output.splitlines() if "MAPPER_PATH" in line]
    assert named == [f"  MAPPER_PATH: {OLDER_SETTINGS['MAPPER_PATH']}"]
    assert "docs/migrate.md" in started.run.output


def test_the_test_user_predicts_and_is_no_admin(started: Started) -> None:
    with started.platform.client(started.platform.token(TESTER, PASSWORD)) as tester:
        assert tester.get("/users/me").json()["role"] == "user"
        assert tester.post("/predict", json={"designation": "Robot de piscine"}).status_code == 200
        for admins_only in ("/test/preprocess/text/manual", "/models/promotions", "/train/jobs"):
            assert tester.get(admins_only).status_code == 403, admins_only


def test_there_is_no_test_user_in_production(tmp_path: Path) -> None:
    settings = {"ENVIRONMENT": "production", "TEST_USER": TESTER, "TEST_USER_PASSWORD": PASSWORD}
    with auth_process(tmp_path, **settings) as client:
        answer = client.post("/token", data={"username": TESTER, "password": PASSWORD})
    assert answer.status_code == 401


def test_the_self_check_of_the_preprocessing_passes(started: Started) -> None:
    answer = started.admin.get("/test/preprocess/text/manual")
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert set(result) == {"exit_code", "stdout", "stderr", "success"}
    assert (result["exit_code"], result["success"], result["stderr"]) == (0, True, "")
    assert result["stdout"]


def test_promotions_are_those_of_the_audit_table(started: Started) -> None:
    rows = started.platform.promotions()
    answer = started.admin.get("/models/promotions")
    assert answer.status_code == 200, answer.text
    shown = answer.json()["promotions"]
    assert len(rows) > 0
    named = ("version", "previous", "moved_by", "reason")
    assert [[one[name] for name in named] for one in shown] == [[row[name] for name in named] for row in reversed(rows)]
    listed = printed(started.home, "promotions", COLUMNS="200")
    assert all(str(row["version"]) in listed for row in rows)


def test_categories_have_labels_in_the_language_asked_for(started: Started) -> None:
    french, english = (
        started.admin.get("/categories", headers={"Accept-Language": language}).json()["categories"]
        for language in ("fr", "en")
    )
    codes = [one["category_id"] for one in french]
    assert len(codes) == 27 and codes == sorted(codes) == [one["category_id"] for one in english]
    assert all(one["label"] for one in [*french, *english])
    assert [one["label"] for one in french] != [one["label"] for one in english]
    listed = printed(started.home, "categories", COLUMNS="200")
    assert all(f" {one['category_id']} " in listed for one in french)


def test_jobs_are_listed_by_kind_shown_followed_and_cancelled(started: Started) -> None:
    started.platform.stop("train-worker")  # so that the job is still queued when it is cancelled
    job_id = start_training(started.admin, "/train/text", text="tfidf-svm", promote="never")

    def jobs(kind: str) -> list[str]:
        found: list[dict[str, Any]] = started.admin.get("/train/jobs", params={"kind": kind}).json()["jobs"]
        return [one["job_id"] for one in found]

    assert jobs("train") == [job_id]
    assert jobs("search") == jobs("drift") == []
    assert started.admin.get("/train/jobs", params={"kind": "nope"}).status_code == 422

    assert job_id in printed(started.home, "jobs", "list", "--kind", "train", COLUMNS="200")
    assert job_id in printed(started.home, "jobs", "cancel", job_id)
    followed = started.run.command("jobs", "follow", job_id)
    assert followed.returncode == 1, "only a job that succeeded is a success"
    assert json.loads(followed.stdout)["status"] == "cancelled"
    shown = json.loads(printed(started.home, "jobs", "show", job_id))
    assert (shown["kind"], shown["status"], shown["submitted_by"]) == ("train", "cancelled", started.platform.admin[0])
    started.platform.start("train-worker")


def test_each_data_stage_leaves_its_artefact(tmp_path: Path) -> None:
    source, home = tmp_path / "server", tmp_path / "shop"
    for folder in (source, home):
        folder.mkdir()
    write_first_rows(source, ROWS)

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(source))

    with serving(Files) as url:
        names = ("features.csv", "target.csv", "images.zip")
        addresses = " ".join(f"{url}/{name}" for name in names)
        printed(home, "data", "download", DATASET_URL=addresses, DATASET_PRIVATE_ADDRESSES="true")
    data = home / "data"
    assert [(data / "raw" / name).read_bytes() for name in names] == [(source / name).read_bytes() for name in names]

    report = json.loads(printed(home, "data", "check"))
    assert (report["rows"], report["problems"]) == (ROWS, [])
    assert json.loads((data / "interim" / "check.json").read_text()) == report

    printed(home, "data", "seed", "--share", "0.8")
    first, rest = (_rows(data / "interim" / name) for name in ("rakuten_train.csv", "rakuten_rest.csv"))
    assert len(first) + len(rest) == ROWS and len(first) > len(rest) > 0

    version = json.loads(printed(home, "data", "preprocess"))["dataset_version"]
    manifest = json.loads((data / "datasets" / version / "manifest.json").read_text())
    assert 0 < manifest["rows"] <= len(first)

    assert version in printed(home, "data", "transform")
    processed = data / "processed" / version
    assert len(_rows(processed / "train.csv")) + len(_rows(processed / "test.csv")) == manifest["rows"]
    assert {path.name for path in processed.glob("*.npz")} >= {"words.npz", "characters.npz", "train.npz", "test.npz"}


def test_a_training_saves_its_predictions_as_json(trained_volume: Path) -> None:
    folder = trained_volume / "data" / "predictions"
    saved = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    (table,) = folder.glob("2*.csv")
    assert saved["version"] == table.stem
    assert len(saved["predictions"]) == len(_rows(table)) > 0


def test_the_token_of_dagshub_is_what_the_dvc_command_logs_in_with(tmp_path: Path) -> None:
    for place in (".dvc/config", ".dvc/.gitignore", ".dvcignore"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / place, tmp_path / place)
    account = {"DAGSHUB_USERNAME": "jane", "DAGSHUB_TOKEN": "a-token"}

    printed(tmp_path, "dvc-config", DVC_REMOTE_URL="https://dagshub.com/jane/shop.dvc", **account)

    local = (tmp_path / ".dvc" / "config.local").read_text()
    assert "https://dagshub.com/jane/shop.dvc" in local and '"jane"' in local and '"a-token"' in local


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
