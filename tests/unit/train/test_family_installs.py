"""Jobs install what their families lack, if a setting allows it and there is a Makefile to do it with."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from structlog.testing import capture_logs

from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.ml.base.model import FamilyNotTrainable
from rayonnage_shared.ml.families.text.lstm import Lstm
from rayonnage_shared.ml.training.requests import SearchRequest, TrainRequest
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_train import family_installs
from rayonnage_train.family_installs import InstallFailed, install_missing, may_install
from rayonnage_train.job_reporter import JobReporter
from rayonnage_train.job_types import TRAIN
from rayonnage_train.runner import run_job
from rayonnage_train.settings import TrainSettings

LSTM = TrainRequest(text="lstm", image=None)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the checkout; `lstm` can be trained once the file `tensorflow` is in it."""

    def check() -> None:
        if not (tmp_path / "tensorflow").exists():
            raise FamilyNotTrainable("run `make keras`")

    monkeypatch.setattr(family_installs, "HOME", tmp_path)
    monkeypatch.setattr(Lstm, "check_trainable", check)
    makefile(tmp_path, "@echo Installing", "@touch tensorflow")
    return tmp_path


def makefile(home: Path, *recipe: str) -> None:
    (home / "Makefile").write_text("keras:\n" + "".join(f"\t{line}\n" for line in recipe))


def run_in(home: Path, engine: Engine | None = None, **settings: Any) -> RunContext[TrainSettings]:
    chosen = TrainSettings(_env_file=None, train_install_families=True, models_path=home / "models")
    return RunContext(
        settings=chosen.model_copy(update=settings),
        engine=cast(Engine, engine),
        job_id="job-1",
        submitted_by="jane",
        stage=lambda name: None,
        progress=lambda fraction, message: None,
    )


def test_what_is_missing_is_installed_once_and_the_output_is_in_the_log(home: Path) -> None:
    with capture_logs() as logs:
        assert install_missing(LSTM, run_in(home))
    assert [one["line"] for one in logs if one["event"] == "install.output"] == ["Installing"]
    assert logs[-1]["event"] == "install.succeeded"
    assert not install_missing(LSTM, run_in(home))
    assert not install_missing(SearchRequest(text="tfidf-svm"), run_in(home))


def test_nothing_is_installed_unless_it_is_allowed_in_a_checkout(home: Path) -> None:
    refused = run_in(home, train_install_families=False)
    assert not install_missing(LSTM, refused) and not may_install(refused.settings)
    (home / "Makefile").unlink()
    assert not install_missing(LSTM, run_in(home))
    assert not (home / "tensorflow").exists()


def test_a_failure_ends_the_job_with_the_last_lines(home: Path) -> None:
    makefile(home, "@echo no network; exit 3")
    with pytest.raises(InstallFailed, match=r"(?s)`make keras` ended with status 2: no network.*Error 3"):
        install_missing(LSTM, run_in(home))


def test_an_installation_is_bounded_in_time(home: Path) -> None:
    makefile(home, "@sleep 600")
    with pytest.raises(InstallFailed, match="TRAIN_INSTALL_TIMEOUT_S"):
        install_missing(LSTM, run_in(home, train_install_timeout_s=0.01))


def test_an_interrupted_installation_is_not_repaired_under_a_running_platform(home: Path) -> None:
    (home / ".run").mkdir()
    (home / ".run" / "installing").touch()
    with pytest.raises(InstallFailed, match="make stop"):
        install_missing(LSTM, run_in(home))
    with (home / ".run" / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one is in progress, for which `make` waits
        assert install_missing(LSTM, run_in(home))


def test_the_installation_sees_no_secret(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "a secret of this platform")
    monkeypatch.setenv("MAKEFLAGS", "--dry-run")
    makefile(home, "@env", "@touch tensorflow")
    with capture_logs() as logs:
        assert install_missing(LSTM, run_in(home, secret_key=SecretStr("x")))
    assert not any("a secret" in str(one) for one in logs)


def test_a_job_that_installed_something_goes_on_in_a_fresh_process(home: Path, engine: Engine) -> None:
    queue, leases = JobQueue(engine), JobLeases(engine)
    job = queue.submit("train", LSTM.model_dump(mode="json"), by="claire", concurrency_group="models")
    held = leases.claim(["train"], 60)
    assert held is not None
    reporter = JobReporter(held, leases)

    assert run_job(TRAIN, held, leases, reporter, run_in(home, engine), may_install=True)
    assert queue.get(job.job_id).status == "running"

    (home / "tensorflow").unlink()
    makefile(home, "@echo no network; exit 3")
    assert not run_job(TRAIN, held, leases, reporter, run_in(home, engine), may_install=True)
    ended = queue.get(job.job_id)
    assert (ended.status, "no network" in str(ended.error)) == ("failed", True)
