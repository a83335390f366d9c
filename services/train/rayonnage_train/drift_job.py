"""The drift job: create a report, and queue a training if the report calls for one.

The job is idempotent: an attempt that was killed and is repeated creates no second report and queues no second
training. The report's id is written before the report is created, and the training's id is in the report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ulid import ULID

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.drift.page import summary
from rayonnage_shared.drift.policy import Facts, Policy, decide
from rayonnage_shared.drift.report import make_report, new_report_id
from rayonnage_shared.drift.report_files import DriftReportNotFound, read_report
from rayonnage_shared.drift.schemas import DriftDecision, DriftReport, DriftRequest
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.schemas import Job, JobStatus
from rayonnage_shared.ml.base.parameters import Parameter
from rayonnage_shared.ml.bundles.manifest import BundleBroken, BundleNotFound, Manifest, list_versions, read_manifest
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.families import family_class
from rayonnage_shared.ml.training.requests import TrainRequest
from rayonnage_shared.ml.training.validation import validate_request
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_train.job_types import TRAIN, TRAININGS
from rayonnage_train.settings import TrainSettings

_IN_PROGRESS: tuple[JobStatus, ...] = ("queued", "running")
_UNSUCCESSFUL: tuple[JobStatus, ...] = ("failed", "cancelled")


def report_and_act(request: DriftRequest, run: RunContext[TrainSettings]) -> dict[str, Any]:
    """Make a drift report, decide what follows from it, and queue a training if that is the decision.

    Returns `{report, drift, alarms, feedback_alarm, rows, summary, decision}`. Raises what `make_report` raises.
    """
    settings, queue = run.settings, JobQueue(run.engine)
    report_id = _report_id(run.work)
    try:
        report = read_report(settings.data_path, report_id)
    except DriftReportNotFound:
        run.stage("report")
        report, _ = make_report(
            run.engine,
            models_path=settings.models_path,
            data_path=settings.data_path,
            hours=request.hours,
            feedback_days=settings.drift_feedback_days,
            report_id=report_id,
            decide=lambda made: decide_on(made, queue, settings),
            evidently_needed=False,  # the decision does not depend on it; the page says why its part is missing
            progress=run.progress,
        )
    if report.decision is not None and report.decision.retrain:
        run.stage("retrain")
        _queue_training(queue, settings, report, report.decision)
    return {
        "report": report.id,
        "drift": report.drift,
        "alarms": report.alarms,
        "feedback_alarm": report.feedback_alarm,
        "rows": report.current_rows,
        "summary": summary(report),
        "decision": report.decision.model_dump() if report.decision else None,
    }


def _report_id(work: Path) -> str:
    """Return the report's id, the same for every attempt of this job."""
    work.mkdir(parents=True, exist_ok=True)
    noted = work / "report_id"
    if not noted.exists():
        write_atomically(noted, new_report_id().encode())
    return noted.read_text(encoding="utf-8")


def decide_on(report: DriftReport, queue: JobQueue, settings: TrainSettings) -> DriftDecision:
    """Return whether the report calls for a training, given the trainings that there have been."""
    decision = decide(_facts(report, queue, settings), Policy.of(settings))
    return decision.model_copy(update={"job_id": str(ULID())}) if decision.retrain else decision


def _facts(report: DriftReport, queue: JobQueue, settings: TrainSettings) -> Facts:
    models_path = settings.models_path
    newest = DatasetStore(settings.data_path).current()
    champion = read_manifest(models_path, report.version)
    succeeded = [job for job in queue.list(kinds=TRAININGS, status="succeeded") if _version_of(job)]
    bundles = _of_successful_trainings(_manifests(models_path), succeeded, queue)
    ends = [bundle.created_at for bundle in bundles]  # trained by a job or by a command
    ends += [job.finished_at for job in succeeded if job.finished_at]
    same = [
        bundle.version
        for bundle in bundles
        if bundle.dataset.version == newest and bundle.families == champion.families
    ]
    return Facts(
        moment=datetime.now(UTC),
        alarms=report.alarms,
        rows=report.current_rows,
        feedback_alarm=report.performance.what if report.performance and report.performance.alarm else None,
        training_in_progress=any(queue.list(kinds=TRAININGS, status=status, limit=1) for status in _IN_PROGRESS),
        last_training=max(ends, default=None),
        trained_on=champion.dataset.version,
        newest_dataset=newest,
        trained_already=next((version for version in same if version != report.version), None),
    )


def _of_successful_trainings(bundles: Sequence[Manifest], succeeded: Sequence[Job], queue: JobQueue) -> list[Manifest]:
    """Return the bundles without those of jobs that wrote a bundle and failed or were cancelled before their end.

    A manifest does not name its job, so a bundle belongs to the job that ran when it was created.
    """
    versions = {_version_of(job) for job in succeeded}
    unsuccessful = [
        (job.started_at, job.finished_at)
        for status in _UNSUCCESSFUL
        for job in queue.list(kinds=TRAININGS, status=status)
        if job.started_at and job.finished_at
    ]

    def counts(bundle: Manifest) -> bool:
        if bundle.version in versions:
            return True
        # A manifest's time has no fraction of a second.
        return not any(start.replace(microsecond=0) <= bundle.created_at <= end for start, end in unsuccessful)

    return [bundle for bundle in bundles if counts(bundle)]


def _version_of(job: Job) -> str | None:
    """Return the version that a job trained; None for a search that was told not to train."""
    return (job.result or {}).get("version")


def _manifests(models_path: Path) -> list[Manifest]:
    found = []
    for version in list_versions(models_path):
        with contextlib.suppress(BundleNotFound, BundleBroken):  # pruned since, or broken
            found.append(read_manifest(models_path, version))
    return found


def _queue_training(queue: JobQueue, settings: TrainSettings, report: DriftReport, decision: DriftDecision) -> None:
    champion = read_manifest(settings.models_path, report.version)
    queue.submit(
        TRAIN.name,
        validate_request(request_like(champion), DatasetStore(settings.data_path)).model_dump(mode="json"),
        by=f"drift {report.id}",
        concurrency_group=TRAIN.concurrency_group,
        job_id=decision.job_id,
        lines=[f"Drift report {report.id}: {decision.reason}"],
    )


def request_like(manifest: Manifest) -> TrainRequest:
    """Return the request for a bundle of the same families, with the parameters that differ from their defaults.

    A fusion that was left out is tried again.
    """
    families = manifest.families.model_copy(update={"fusion": manifest.fitted_fusion()})
    parameters: dict[str, Parameter] = {}
    for component, family in families.present().items():
        defaults = family_class(component, family).parameters
        fitted = manifest.models.get(component)
        parameters |= {
            f"{component}.{name}": value
            for name, value in (fitted.parameters if fitted else {}).items()
            if name in defaults and value is not None and value != defaults[name]
        }
    return TrainRequest(
        text=families.text,
        image=families.image,
        fusion=families.fusion,
        parameters=parameters,
    )
