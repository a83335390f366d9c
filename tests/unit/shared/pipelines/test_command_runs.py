"""The same command resumes what was killed; what succeeded or failed begins anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.training.requests import SearchRequest, TrainRequest
from rayonnage_shared.pipelines import command_runs
from rayonnage_shared.pipelines.command_runs import ABANDONED_S, AlreadyRunning, resumable_run
from rayonnage_shared.pipelines.run_context import work_folder

REQUEST = TrainRequest(dataset_version="20261121T073029Z-9244")


def interrupt(models: Path, request: TrainRequest = REQUEST) -> Path:
    """Finish a stage, then press Ctrl-C; return the work folder."""
    with pytest.raises(KeyboardInterrupt), resumable_run(models, request) as run:
        work = work_folder(models, run.id)
        (work / "text.done").touch()
        raise KeyboardInterrupt
    return work


def test_an_interrupted_run_is_resumed_by_the_same_command(tmp_path: Path) -> None:
    work = interrupt(tmp_path)

    with resumable_run(tmp_path, REQUEST) as run:
        assert run.resumed
        assert work_folder(tmp_path, run.id) == work
        assert (work / "text.done").exists()

    assert not work.exists()
    with resumable_run(tmp_path, REQUEST) as run:
        assert not run.resumed


def test_a_run_that_failed_begins_anew(tmp_path: Path) -> None:
    interrupt(tmp_path)

    with pytest.raises(BadInput), resumable_run(tmp_path, REQUEST):
        raise BadInput("no such thing")

    with resumable_run(tmp_path, REQUEST) as run:
        assert not run.resumed


def test_another_request_or_other_code_resumes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path)
    others = [
        REQUEST.model_copy(update={"parameters": {"text.penalty": 1.0}}),
        REQUEST.model_copy(update={"dataset_version": "20261122T073029Z-9244"}),
        SearchRequest(text="tfidf-svm", dataset_version=REQUEST.dataset_version),
    ]
    for other in others:
        with resumable_run(tmp_path, other) as run:
            assert not run.resumed
    monkeypatch.setattr(command_runs, "code_version", lambda: "another")
    with resumable_run(tmp_path, REQUEST) as run:
        assert not run.resumed


def test_the_same_command_does_not_run_twice_at_once(tmp_path: Path) -> None:
    with resumable_run(tmp_path, REQUEST) as run:
        (work_folder(tmp_path, run.id) / "text.done").touch()
        with pytest.raises(AlreadyRunning, match="another process"), resumable_run(tmp_path, REQUEST):
            pass
        assert (work_folder(tmp_path, run.id) / "text.done").exists()


def test_work_that_nobody_resumed_for_a_week_is_removed(tmp_path: Path) -> None:
    old, running, job = (
        interrupt(tmp_path),
        REQUEST.model_copy(update={"promote": "never"}),
        tmp_path / ".work" / "01ABC",
    )
    job.mkdir()
    with resumable_run(tmp_path, running) as run:
        for folder in (old, work_folder(tmp_path, run.id), job):
            long_ago = folder.stat().st_mtime - ABANDONED_S - 1
            os.utime(folder, (long_ago, long_ago))

        with resumable_run(tmp_path, REQUEST.model_copy(update={"promote": "always"})):
            pass

        assert not old.exists()
        assert work_folder(tmp_path, run.id).exists()
        assert job.exists()
