"""The circumstances of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from rayonnage_shared.pipelines.run_context import RunContext, work_folder
from rayonnage_shared.pipelines.settings import PipelineSettings

Reports = list[tuple[str, object]]


def context(home: Path, engine: Engine, reports: Reports) -> RunContext[PipelineSettings]:
    return RunContext(
        settings=PipelineSettings(models_path=home / "models", data_path=home / "data"),
        engine=engine,
        job_id="job-1",
        submitted_by="jane",
        stage=lambda name: reports.append(("stage", name)),
        progress=lambda fraction, message: reports.append((message, fraction)),
    )


def test_a_stage_begins_at_nought(tmp_path: Path, engine: Engine) -> None:
    reports: Reports = []
    context(tmp_path, engine, reports).enter("gate", "comparing")
    assert reports == [("stage", "gate"), ("comparing", 0.0)]
    context(tmp_path, engine, reports).enter("promote", "moving", 0.9)
    assert reports[2:] == [("stage", "promote"), ("moving", 0.9)]


def test_the_progress_of_a_part_is_that_of_the_whole(tmp_path: Path, engine: Engine) -> None:
    reports: Reports = []
    run = context(tmp_path, engine, reports)
    training = run.child("training", start=0.8)
    training.progress(0.5, "halfway")
    run.child(end=0.8).progress(0.5, "searching")
    assert reports == [("halfway", pytest.approx(0.9)), ("searching", pytest.approx(0.4))]
    assert run.child(end=0.8).work == run.work


def test_a_run_within_a_run_works_below_it_and_goes_with_it(tmp_path: Path, engine: Engine) -> None:
    run = context(tmp_path, engine, [])
    child = run.child("training")
    assert run.work == work_folder(tmp_path / "models", "job-1")
    assert child.work == run.work / "training"
    assert (child.job_id, child.submitted_by, child.settings) == (run.job_id, run.submitted_by, run.settings)
    child.work.mkdir(parents=True)
    run.remove_work()
    assert not run.work.exists()
    run.remove_work()
