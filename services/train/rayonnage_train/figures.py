"""What the API shows to Prometheus of the tables and of the newest drift report, read when Prometheus asks.

Samples are absent where what they would say is not known, as when the database is away; the page is there all the same.
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
from rayonnage_shared.jobs.queue import JobFigures, JobQueue
from rayonnage_shared.jobs.schemas import JobStatus
from rayonnage_train.handlers import JOB_KINDS

log = structlog.get_logger()

READ_WITHIN_S = 3.0  # Prometheus waits for 10 s, and the rest of the page is to arrive in any case

T = TypeVar("T")


class TrainFigures(Collector):
    """Jobs, feedback and drift as samples; `refresh` reads them, one reader at a time."""

    def __init__(self, queue: JobQueue, engine: Engine, data_path: Path) -> None:
        self._queue = queue
        self._engine = engine
        self._data_path = data_path
        self._jobs: JobFigures | None = None
        self._feedback: int | None = None
        self._report: DriftReport | None = None
        self._reading: asyncio.Future[None] | None = None

    @contextlib.contextmanager
    def registered(self, registry: CollectorRegistry = REGISTRY) -> Iterator[None]:
        """Show the samples on the page of this process until the block ends."""
        registry.register(self)
        try:
            yield
        finally:
            registry.unregister(self)
            if self._reading is not None:
                self._reading.cancel()

    async def refresh(self, within_s: float = READ_WITHIN_S) -> None:
        """Read what there is now; what takes longer than `within_s` counts as not known until it has come."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(to_thread.run_sync(self._read))
        done, _ = await asyncio.wait([self._reading], timeout=within_s)
        if not done:
            self._jobs = self._feedback = None

    def _read(self) -> None:
        self._jobs = _known(self._queue.figures)
        self._feedback = None if self._jobs is None else _known(lambda: count_feedback(self._engine))
        self._report = _known(self._newest_report)

    def _newest_report(self) -> DriftReport | None:
        ids = report_ids(self._data_path)
        if not ids or (self._report is not None and self._report.id == ids[0]):
            return self._report if ids else None
        return read_report(self._data_path, ids[0])

    def collect(self) -> Iterable[Metric]:
        """Return the samples as they were read last."""
        if self._jobs is not None:
            yield from _of_jobs(self._jobs)
        if self._feedback is not None:
            yield _gauge("rayonnage_feedback_rows", "Predictions of which the truth is known.", self._feedback)
        if self._report is not None:
            yield from _of_report(self._report)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is depends on the database."""
        return []


def _known(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - metrics must not fail with what they tell of
        log.warning("metrics.not_read", error=type(error).__name__)
        return None


def _of_jobs(figures: JobFigures) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("rayonnage_jobs", "Jobs in the table by kind and status.", labels=["kind", "status"])
    pairs = {(kind, status) for kind in JOB_KINDS for status in get_args(JobStatus)} | figures.counts.keys()
    for pair in sorted(pairs):
        jobs.add_metric(pair, figures.counts.get(pair, 0))
    yield jobs
    yield _gauge("rayonnage_jobs_oldest_waiting_seconds", "How long the oldest job waits.", figures.oldest_waiting_s)


def _of_report(report: DriftReport) -> Iterator[Metric]:
    distance, threshold, alarm = (
        GaugeMetricFamily(f"rayonnage_drift_{name}", words, labels=["column"])
        for name, words in (
            ("distance", "How far answers lie from the reference, in the newest drift report."),
            ("threshold", "Distance from which on a column is an alarm, if chance is ruled out."),
            ("alarm", "1 where a column is an alarm in the newest drift report."),
        )
    )
    for column in report.columns:
        if column.distance is not None:
            distance.add_metric([column.name], column.distance)
        threshold.add_metric([column.name], column.threshold)
        alarm.add_metric([column.name], column.drift)
    rows = GaugeMetricFamily("rayonnage_drift_rows", "Rows that the newest drift report compares.", labels=["side"])
    rows.add_metric(["reference"], report.reference_rows)
    rows.add_metric(["current"], report.current_rows)
    yield from (distance, threshold, alarm, rows)
    made = "When the newest drift report was made, seconds since 1970."
    yield _gauge("rayonnage_drift_report_timestamp_seconds", made, report.created_at.timestamp())
    if report.performance is not None:
        yield from _of_performance(report.performance)


def _of_performance(found: Performance) -> Iterator[Metric]:
    if found.accuracy is not None:
        words = "Share of the champion's answers that feedback says are right."
        yield _gauge("rayonnage_feedback_accuracy", words, found.accuracy)
    if found.expected_accuracy is not None:
        words = "The champion's accuracy on its test split."
        yield _gauge("rayonnage_feedback_expected_accuracy", words, found.expected_accuracy)
    words = "Answers that the accuracy by feedback stands on."
    yield _gauge("rayonnage_feedback_labelled", words, found.labelled)
    words = "1 when the champion is right less often than it should be."
    yield _gauge("rayonnage_feedback_alarm", words, found.alarm)


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=value)
