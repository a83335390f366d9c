"""Metrics of one worker; those of the database and of the volume are the API's (`metrics`)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from rayonnage_shared.jobs.schemas import Job

DURATION_BUCKETS_S = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200)


class WorkerMetrics:
    """Job durations and sync state, in this worker's own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._durations = Histogram(
            "rayonnage_job_duration_seconds",
            "Time from a job's first start to its end.",
            ["kind", "status"],
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )

        self._pending = Gauge(
            "rayonnage_sync_pending",
            "1 while the sync target (MLflow, DVC) has pending work.",
            ["target"],
            registry=self.registry,
        )
        self._last_success = Gauge(
            "rayonnage_sync_last_success_timestamp_seconds",
            "Time of the target's last complete sync, in seconds since 1970.",
            ["target"],
            registry=self.registry,
        )

    def ended(self, job: Job) -> None:
        """Observe a job that has ended."""
        if job.started_at is not None and job.finished_at is not None:
            seconds = (job.finished_at - job.started_at).total_seconds()
            self._durations.labels(job.kind, job.status).observe(seconds)

    def synced(self, target: str, *, pending: bool, last_success: float | None) -> None:
        """Set the state of a sync target; `last_success` is in seconds since 1970."""
        self._pending.labels(target).set(pending)
        if last_success is not None:
            self._last_success.labels(target).set(last_success)
