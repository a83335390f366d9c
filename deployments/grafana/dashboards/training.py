"""Jobs and their duration, and the age of data and model."""

from __future__ import annotations

from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import Dashboard

from deployments.grafana.dashboards.panels import (
    BAD,
    GOOD,
    WARNING,
    Query,
    bars,
    lines,
    number,
    page,
    rows,
    variable,
)

_COUNTED = "kind_status:rayonnage_jobs:max"
"""Every process of the train API reports the same table; this rule counts it once."""
_JOBS = f'{_COUNTED}{{kind=~"$kind"}}'
_INGESTS = '{job="ingest",handler="/ingest"}'
_DURATION = "rayonnage_job_duration_seconds"
_DAY_S = 86_400


def training() -> Dashboard:
    """Return the dashboard."""
    return page(
        "Rayonnage: training and data",
        "Jobs and how long they take, and the age of data and models. docs/monitoring.md",
        uid="rayonnage-training",
        choices=[variable("Kind of job", "label_values(rayonnage_jobs, kind)", name="kind")],
        hours=24,
        sections={
            "Current jobs": [
                number(
                    "Jobs by state",
                    "Jobs by state. `queued` while nothing runs: there is no worker.",
                    Query(f"sum by (status) ({_JOBS})", "{{status}}"),
                    unit="short",
                    width=12,
                    curve=False,
                ),
                number(
                    "Longest waiting job",
                    "Waiting time of the oldest queued job. Minutes are normal while a training runs.",
                    Query("max(rayonnage_jobs_oldest_waiting_seconds)", "waiting"),
                    unit="s",
                    steps=((None, GOOD), (1800, WARNING), (7200, BAD)),
                ),
                number(
                    "Failed in the time range",
                    "Jobs that failed. The reason is in GET /train/jobs/{id}, field error. docs/runbook.md",
                    Query(f'sum(clamp_min(delta({_COUNTED}{{status="failed"}}[$__range]), 0))', "failed"),
                    unit="short",
                    steps=((None, GOOD), (1, BAD)),
                ),
                number(
                    "Workers",
                    "Worker processes that Prometheus scrapes. None: no trainings, no drift reports.",
                    Query('sum(up{job="train-worker"})', "workers"),
                    unit="short",
                    steps=((None, BAD), (1, GOOD)),
                ),
            ],
            "Jobs over time": [
                lines(
                    "Queued and running",
                    "`queued` that never decreases: more jobs than one worker can run.",
                    Query(f'sum by (status) ({_COUNTED}{{status=~"queued|running"}})', "{{status}}"),
                    unit="short",
                    width=12,
                ),
                rows(
                    "Jobs by kind and state",
                    "Counts of all jobs.",
                    Query(f"{_JOBS} > 0"),
                    columns={"kind": "Kind", "status": "State"},
                    unit="short",
                ),
            ],
            "Job duration": [
                bars(
                    "Duration, median",
                    "From a job's first start to its end, since the worker started.",
                    Query(
                        f'histogram_quantile(0.5, sum by (kind, le) ({_DURATION}_bucket{{kind=~"$kind"}}))', "{{kind}}"
                    ),
                    unit="s",
                ),
                bars(
                    "Duration, p95",
                    "One job in twenty takes longer. Hours for a training are normal with TensorFlow families only.",
                    Query(
                        f'histogram_quantile(0.95, sum by (kind, le) ({_DURATION}_bucket{{kind=~"$kind"}}))', "{{kind}}"
                    ),
                    unit="s",
                ),
                bars(
                    "Finished jobs by outcome",
                    "Jobs the worker finished since it started.",
                    Query(f'sum by (kind, status) ({_DURATION}_count{{kind=~"$kind"}})', "{{kind}} {{status}}"),
                    unit="short",
                ),
            ],
            "Data": [
                lines(
                    "Products in the current dataset",
                    "Grows with each ingest. A drop: an older version, or real products replaced the sample.",
                    Query("max(rayonnage_dataset_rows)", "products"),
                    Query("max(rayonnage_dataset_rows_with_image)", "with a photo"),
                    unit="short",
                ),
                number(
                    "Share with a photo",
                    "Products without a photo are predicted from text alone.",
                    Query("max(rayonnage_dataset_rows_with_image) / max(rayonnage_dataset_rows)", "with a photo"),
                    unit="percentunit",
                ),
                number(
                    "Feedback in total",
                    "Rows of feedback in the database; the next ingest of feedback ingests the new ones.",
                    Query("max(rayonnage_feedback_rows)", "feedback"),
                    unit="short",
                ),
                lines(
                    "Ingests by response",
                    "201: a new dataset version; 200: nothing new; 422: every row was refused; the report says why.",
                    Query(
                        f"sum by (status) (increase(http_requests_total{_INGESTS}[$__rate_interval]))",
                        "{{status}}",
                    ),
                    unit="short",
                    stacked=StackingMode.NORMAL,
                ),
            ],
            "Freshness": [
                number(
                    "Age of the model",
                    "Time since the champion was trained.",
                    Query("time() - max(rayonnage_champion_created_timestamp_seconds)", "age"),
                    unit="s",
                    steps=((None, GOOD), (23 * _DAY_S, WARNING), (30 * _DAY_S, BAD)),
                    width=6,
                    curve=False,
                ),
                number(
                    "Age of the drift report",
                    "Since the latest report. Far beyond DRIFT_EVERY_H: the worker creates none.",
                    Query("time() - max(rayonnage_drift_report_timestamp_seconds)", "age"),
                    unit="s",
                    steps=((None, GOOD), (2 * _DAY_S, WARNING)),
                    width=6,
                    curve=False,
                ),
                number(
                    "Columns in alarm",
                    "Columns in alarm in the latest drift report, which may queue a retraining.",
                    Query("sum(max by (column) (rayonnage_drift_alarm))", "columns"),
                    unit="short",
                    steps=((None, GOOD), (1, BAD)),
                    width=6,
                ),
                number(
                    "Trainings by state",
                    "Trainings requested by users and by the drift policy.",
                    Query(f'sum by (status) ({_COUNTED}{{kind=~"train|search"}})', "{{status}}"),
                    unit="short",
                    width=6,
                    curve=False,
                ),
            ],
            "Sync to MLflow and DVC": [
                number(
                    "Sync targets with pending work",
                    "1 while a sync target (MLflow, DVC) has pending work. Predictions do not depend on it.",
                    Query("max by (target) (rayonnage_sync_pending)", "{{target}}"),
                    unit="short",
                    width=12,
                    words={"0": ("up to date", GOOD), "1": ("behind", WARNING)},
                    curve=False,
                ),
                lines(
                    "Time since the last complete sync",
                    "Also grows while there is nothing to sync: a problem only together with pending work.",
                    Query("time() - max by (target) (rayonnage_sync_last_success_timestamp_seconds)", "{{target}}"),
                    unit="s",
                    width=12,
                ),
            ],
        },
    )
