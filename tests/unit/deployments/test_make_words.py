"""The make words of the older systems, with commands that only record how they are called."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[3]


class Recorder:
    """A folder with the Makefile, in which `docker` and the bootstrap script write down their arguments."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.calls_file = home / "calls"
        (home / "Makefile").symlink_to(ROOT / "Makefile")
        for name in ("docker", "bootstrap"):
            script = home / "bin" / name
            script.parent.mkdir(exist_ok=True)
            script.write_text(f'#!/bin/sh\necho {name} "$@" >> {shlex.quote(str(self.calls_file))}\n')
            script.chmod(0o755)

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        bootstrap = f"BOOTSTRAP={self.home / 'bin' / 'bootstrap'}"
        return subprocess.run(
            ["make", "--no-print-directory", bootstrap, *words],
            check=False,
            cwd=self.home,
            env={"PATH": f"{self.home / 'bin'}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def calls(self, *words: str) -> list[str]:
        """Return what `make WORDS` calls, `make` itself having succeeded."""
        self.calls_file.unlink(missing_ok=True)
        done = self.make(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.calls_file.read_text().splitlines()


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


PREDICT = "bootstrap rayonnage predict --csv data/sample/features.csv --output data/predictions/products.csv"
MONITOR = "bootstrap --extra monitor rayonnage monitor"
DASHBOARD = "bootstrap --no-sync rayonnage dashboard --once"


def test_api_starts_the_platform(recorder: Recorder) -> None:
    assert recorder.calls("api") == recorder.calls("run") == ["bootstrap rayonnage up"]


def test_no_train_run_predicts_monitors_and_shows_the_dashboard(recorder: Recorder) -> None:
    assert recorder.calls("no-train-run") == [PREDICT, MONITOR, DASHBOARD]
    assert (recorder.home / "data" / "predictions").is_dir()
    own = recorder.calls("no-train-run", "PRODUCTS=my shop.csv")
    assert own[0] == "bootstrap rayonnage predict --csv my shop.csv --output data/predictions/products.csv"


def test_full_run_trains_first_and_full_run_api_starts_the_platform_at_the_end(recorder: Recorder) -> None:
    train = "bootstrap rayonnage train --text tfidf-svm"
    arguments = "ARGS=--text tfidf-svm"
    assert recorder.calls("full-run", arguments) == [train, PREDICT, MONITOR, DASHBOARD]
    assert recorder.calls("full-run-api", arguments) == [
        train,
        PREDICT,
        MONITOR,
        DASHBOARD,
        "bootstrap rayonnage up",
    ]


def test_the_environment_is_created_and_brought_up_to_date(recorder: Recorder) -> None:
    assert recorder.calls("create_environment") == ["bootstrap --extra dvc rayonnage dvc-config"]
    assert "source .venv/bin/activate" in recorder.make("create_environment").stdout
    assert recorder.calls("requirements") == ["bootstrap"]


def test_airflow_is_initialised_and_started(recorder: Recorder) -> None:
    prepared = ["bootstrap rayonnage env", "bootstrap rayonnage certs"]
    assert recorder.calls("init-airflow") == [
        *prepared,
        "docker compose --profile airflow build airflow",
        "docker compose --profile airflow run --rm airflow-database",
    ]
    assert recorder.calls("start") == recorder.calls("airflow-up")
    assert recorder.calls("start")[:3] == [
        *prepared,
        "docker compose --profile airflow up --detach --build --wait airflow",
    ]


def test_containers_are_listed(recorder: Recorder) -> None:
    assert recorder.calls("docker-ps") == recorder.calls("ps") == ["docker compose ps --all"]


def test_a_training_file_of_this_machine_is_ingested_into_the_containers(recorder: Recorder) -> None:
    missing = recorder.make("docker-cp-traincsv")
    assert missing.returncode != 0
    assert "There is no data/interim/rakuten_train.csv" in missing.stderr
    assert not recorder.calls_file.exists()

    file = recorder.home / "data" / "interim" / "rakuten_train.csv"
    file.parent.mkdir(parents=True)
    file.touch()
    assert recorder.calls("docker-cp-traincsv") == [
        f"docker compose run --rm --volume {file}:/input/train.csv:ro tools rayonnage ingest /input/train.csv"
    ]
    assert recorder.calls("docker-cp-traincsv", "ARGS=--allow-new-codes")[0].endswith("--allow-new-codes")


def test_help_lists_the_older_words(recorder: Recorder) -> None:
    lines = {
        line.split()[0].removeprefix("\x1b[1m"): line for line in recorder.make("help").stdout.splitlines() if line
    }
    words = "api full-run full-run-api no-train-run init-airflow start create_environment requirements docker-ps"
    for word in (*words.split(), "docker-cp-traincsv"):
        assert any(name.startswith(word) for name in lines), word


def test_the_interpreter_is_the_one_that_make_is_given(recorder: Recorder) -> None:
    done = subprocess.run(
        ["make", "-n", "--no-print-directory", f"PYTHON={sys.executable}", "requirements"],
        check=True,
        cwd=recorder.home,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout.strip() == f"{sys.executable} deployments/local/bootstrap.py"
