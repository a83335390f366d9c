"""Metrics of train's API: jobs, feedback and the newest drift report, read at each scrape.

What cannot be read, for example while the database is unreachable, has no sample; the rest of the page is served.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar, get_args

import structlog
from anyio import to_thread
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from rayonnage_shared.drift.report_files import read_report, report_ids
from rayonnage_shared.drift.schemas import DriftReport, Performance
from rayonnage_shared.feedback.repository import count_feedback
from rayonnage_shared.jobs.queue import JobCounts, JobQueue
from rayonnage_shared.jobs.schemas import JobStatus
from rayonnage_train.job_types import JOB_TYPES

log = structlog.get_logger()

READ_WITHIN_S = 3.0  # Prometheus gives up after 10 s

T = TypeVar("T")


class TrainMetrics(Collector):
    """Collects jobs, feedback and drift; `refresh` reads them, with one reader at a time."""

    def __init__(self, queue: JobQueue, engine: Engine, data_path: Path) -> None:
        self._queue = queue
        self._engine = engine
        self._data_path = data_path
        self._jobs: JobCounts | None = None
        self._feedback: int | None = None
        self._report: DriftReport | None = None
        self._reading: asyncio.Future[None] | None = None

    @contextlib.contextmanager
    def registered(self, registry: CollectorRegistry = REGISTRY) -> Iterator[None]:
        """Add the samples to this process's metrics until the block ends."""
        registry.register(self)
        try:
            yield
        finally:
            registry.unregister(self)
            if self._reading is not None:
                self._reading.cancel()

    async def refresh(self, within_s: float = READ_WITHIN_S) -> None:
        """Read the current values; without an answer within `within_s` the database's samples are left out."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(to_thread.run_sync(self._read))
        done, _ = await asyncio.wait([self._reading], timeout=within_s)
        if not done:
            self._jobs = self._feedback = None

    def _read(self) -> None:
        self._jobs = _known(self._queue.counts)
        self._feedback = None if self._jobs is None else _known(lambda: count_feedback(self._engine))
        self._report = _known(self._newest_report)

    def _newest_report(self) -> DriftReport | None:
        ids = report_ids(self._data_path)
        if not ids or (self._report is not None and self._report.id == ids[0]):
            return self._report if ids else None
        return read_report(self._data_path, ids[0])

    def collect(self) -> Iterable[Metric]:
        """Return the samples of the last `refresh`."""
        if self._jobs is not None:
            yield from _of_jobs(self._jobs)
        if self._feedback is not None:
            yield _gauge("rayonnage_feedback_rows", "Predictions with feedback on their true category.", self._feedback)
        if self._report is not None:
            yield from _of_report(self._report)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the samples depend on the database."""
        return []


def _known(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - one source that fails must not take the page along
        log.warning("metrics.read_failed", error=type(error).__name__)
        return None


def _of_jobs(counts: JobCounts) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("rayonnage_jobs", "Jobs in the database by kind and status.", labels=["kind", "status"])
    pairs = {(kind, status) for kind in JOB_TYPES for status in get_args(JobStatus)}
    for pair in sorted(pairs | counts.by_kind_and_status.keys()):
        jobs.add_metric(pair, counts.by_kind_and_status.get(pair, 0))
    yield jobs
    words = "How long the oldest queued job has waited."
    yield _gauge("rayonnage_jobs_oldest_waiting_seconds", words, counts.oldest_waiting_s)


def _of_report(report: DriftReport) -> Iterator[Metric]:
    distance, threshold, alarm = (
        GaugeMetricFamily(f"rayonnage_drift_{name}", words, labels=["column"])
        for name, words in (
            ("distance", "Distance of predictions from the reference, in the newest drift report."),
            ("threshold", "Distance at which a column raises an alarm, if statistically significant."),
            ("alarm", "1 if the column raises an alarm in the newest drift report."),
        )
    )
    for column in report.columns:
        if column.distance is not None:
            distance.add_metric([column.name], column.distance)
        threshold.add_metric([column.name], column.threshold)
        alarm.add_metric([column.name], column.drift)
    rows = GaugeMetricFamily("rayonnage_drift_rows", "Rows compared by the newest drift report.", labels=["side"])
    rows.add_metric(["reference"], report.reference_rows)
    rows.add_metric(["current"], report.current_rows)
    yield from (distance, threshold, alarm, rows)
    words = "Creation time of the newest drift report, in seconds since 1970."
    yield _gauge("rayonnage_drift_report_timestamp_seconds", words, report.created_at.timestamp())
    if report.performance is not None:
        yield from _of_performance(report.performance)


def _of_performance(found: Performance) -> Iterator[Metric]:
    if found.accuracy is not None:
        words = "Accuracy of the champion's predictions, by feedback."
        yield _gauge("rayonnage_feedback_accuracy", words, found.accuracy)
    if found.expected_accuracy is not None:
        words = "Accuracy of the champion on its test split."
        yield _gauge("rayonnage_feedback_expected_accuracy", words, found.expected_accuracy)
    words = "Predictions that the accuracy by feedback is computed from."
    yield _gauge("rayonnage_feedback_labelled", words, found.labelled)
    words = "1 if the champion is less accurate than expected, by feedback."
    yield _gauge("rayonnage_feedback_alarm", words, found.alarm)


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=value)
