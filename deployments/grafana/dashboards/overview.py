"""The first dashboard to open after an alert: processes, objectives, refused requests and restarts."""

from __future__ import annotations

from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import Dashboard

from deployments.grafana.dashboards.panels import BAD, GOOD, WARNING, Query, lines, name, number, page, rows, variable

_OURS = 'job=~"auth|ingest|train|train-worker|predict|gateway"'
_CHOSEN = 'job=~"$job"'
_SECONDS = "http_request_duration_seconds"
_DOOR = 'job="gateway",handler="/predict"'
_FIRING = 'ALERTS{alertstate="firing",severity!="none"}'
"""The Watchdog, which always fires, has severity `none`."""
_POSTED = 'job="gateway",handler="/predict",method="POST"'
AVAILABILITY_BUDGET, LATENCY_BUDGET, FRESHNESS_DAYS = 0.001, 0.01, 30
"""The objectives of deployments/prometheus/rules/slo.yml; a test compares them."""
_FAILED = 'sum(increase(http_requests_total{job="gateway",status=~"5.."}[30d]))'
_ALL = 'sum(increase(http_requests_total{job="gateway"}[30d]))'
_IN_TIME = f'sum(increase({_SECONDS}_bucket{{{_POSTED},le="0.25"}}[30d]))'
_TIMED = f"sum(increase({_SECONDS}_count{{{_POSTED}}}[30d]))"
_BUDGET_STEPS = ((None, BAD), (0, WARNING), (0.25, GOOD))
_LATENCY_STEPS = ((None, GOOD), (0.1, WARNING), (0.25, BAD))


def _quantile(share: float, labels: str, by: str = "le") -> str:
    buckets = f"{_SECONDS}_bucket{{{labels}}}"
    return f"histogram_quantile({share}, sum by ({by}) (rate({buckets}[$__rate_interval])))"


def overview() -> Dashboard:
    """Return the dashboard."""
    return page(
        "Rayonnage: platform overview",
        "Is the platform up, are objectives met, which requests are refused? docs/monitoring.md, docs/runbook.md",
        uid="rayonnage-overview",
        choices=[variable("Service", "label_values(http_requests_total, job)", name="job")],
        sections={
            "Status": [
                number(
                    "Processes up",
                    "Processes of each service that Prometheus can scrape. 0: down. docs/runbook.md, ProcessDown",
                    Query(f"sum by (job) (up{{{_OURS}}})", "{{job}}"),
                    unit="short",
                    width=14,
                    steps=((None, BAD), (1, GOOD)),
                    curve=False,
                ),
                number(
                    "Firing alerts",
                    "These alerts are also sent to Slack. docs/runbook.md has an entry per alert.",
                    Query(f"count({_FIRING}) or vector(0)", "alerts"),
                    unit="short",
                    steps=((None, GOOD), (1, BAD)),
                ),
                name(
                    "Champion",
                    "The served bundle.",
                    Query("max by (version, family) (rayonnage_champion_info)", "{{version}} ({{family}})"),
                ),
            ],
            "Service level objectives": [
                number(
                    "Availability: error budget left",
                    "One of 1,000 requests in 30 days may fail (5xx at the gateway). Below 0 the objective is "
                    "missed. docs/runbook.md, AvailabilityBurning",
                    Query(f"1 - ({_FAILED} or vector(0)) / {_ALL} / {AVAILABILITY_BUDGET}", "left"),
                    unit="percentunit",
                    width=6,
                    steps=_BUDGET_STEPS,
                    instant=True,
                ),
                number(
                    "Latency: error budget left",
                    "One of 100 predictions in 30 days may take longer than 250 ms. docs/runbook.md, LatencyBurning",
                    Query(f"1 - (1 - {_IN_TIME} / {_TIMED}) / {LATENCY_BUDGET}", "left"),
                    unit="percentunit",
                    width=6,
                    steps=_BUDGET_STEPS,
                    instant=True,
                ),
                number(
                    "Freshness: time left",
                    "Time until the champion is 30 days old. Below 0: train a new model. docs/runbook.md, ModelTooOld",
                    Query(f"{FRESHNESS_DAYS} * 86400 - max(job:rayonnage_champion_age_seconds:max)", "left"),
                    unit="s",
                    width=6,
                    steps=((None, BAD), (0, WARNING), (7 * 86_400, GOOD)),
                    curve=False,
                ),
                number(
                    "p99 of /predict, 5 minutes",
                    "At the gateway, as clients see it.",
                    Query(
                        'max(job_handler:http_request_duration_seconds:p99_5m{job="gateway",handler="/predict"})',
                        "p99",
                    ),
                    unit="s",
                    width=6,
                    steps=_LATENCY_STEPS,
                ),
                *(
                    lines(
                        title,
                        "1 is as fast as the month allows. An alert is sent at 14.4 over an hour, or 6 over six hours, "
                        "if the last minutes are as bad.",
                        *(
                            Query(f"max({rule}:ratio_rate{window}) / {budget}", window)
                            for window in ("5m", "30m", "1h", "6h", "3d")
                        ),
                        unit="short",
                        steps=((None, GOOD), (1, WARNING), (14.4, BAD)),
                    )
                    for title, rule, budget in (
                        ("Availability: burn rate", "job:http_requests_failed_per_request", AVAILABILITY_BUDGET),
                        ("Latency: burn rate", "job_handler:http_requests_slow_per_answer", LATENCY_BUDGET),
                    )
                ),
                rows(
                    "Firing alerts over time",
                    "Should be empty. docs/runbook.md has an entry per alert.",
                    Query(f"max by (alertname, severity, job) ({_FIRING})"),
                    columns={"alertname": "Alert", "severity": "Severity", "job": "Where"},
                    unit="short",
                    width=8,
                ),
            ],
            "Traffic": [
                lines(
                    "Requests per second by service",
                    "A sudden drop with everything else green: check nginx and DNS in front of the gateway.",
                    Query(f"sum by (job) (rate(http_requests_total{{{_CHOSEN}}}[$__rate_interval]))", "{{job}}"),
                    unit="reqps",
                ),
                lines(
                    "Errors by service (5xx)",
                    "Fraction of requests with a 5xx. At the gateway and at one service: that service fails; at "
                    "the gateway alone: a service is unreachable.",
                    Query(
                        f'sum by (job) (rate(http_requests_total{{{_CHOSEN},status=~"5.."}}[$__rate_interval])'
                        f" or 0 * rate(http_requests_total{{{_CHOSEN}}}[$__rate_interval]))"
                        f" / sum by (job) (rate(http_requests_total{{{_CHOSEN}}}[$__rate_interval]))",
                        "{{job}}",
                    ),
                    unit="percentunit",
                    steps=((None, GOOD), (0.001, BAD)),
                ),
                lines(
                    "p99 by service",
                    "One request in a hundred takes longer. Ingest is slow, since it processes whole catalogues.",
                    Query(_quantile(0.99, _CHOSEN, "job, le"), "{{job}}"),
                    unit="s",
                ),
                rows(
                    "Slowest routes",
                    "The ten routes with the highest mean duration in the time range.",
                    Query(
                        f"topk(10, sum by (job, handler) (increase({_SECONDS}_sum{{{_CHOSEN}}}[$__range]))"
                        f" / (sum by (job, handler) (increase({_SECONDS}_count{{{_CHOSEN}}}[$__range])) > 0))"
                    ),
                    columns={"job": "Service", "handler": "Route"},
                    unit="s",
                ),
                lines(
                    "Responses by status",
                    "Of the selected services. 401 and 403: tokens; 413 and 422: invalid requests; 429: rate "
                    "limit; 503: overloaded, or no model.",
                    Query(f"sum by (status) (rate(http_requests_total{{{_CHOSEN}}}[$__rate_interval]))", "{{status}}"),
                    unit="reqps",
                    width=12,
                    stacked=StackingMode.NORMAL,
                ),
            ],
            "POST /predict at the gateway": [
                lines(
                    "Duration of /predict",
                    "As clients see it, including authentication and forwarding. Growing with `Predictions in "
                    "progress`: no capacity left; growing alone: the machine is busy with other work.",
                    *(Query(_quantile(share, _DOOR), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
                    unit="s",
                    steps=_LATENCY_STEPS,
                ),
                lines(
                    "Responses of /predict by status",
                    "200 is a prediction.",
                    Query(f"sum by (status) (rate(http_requests_total{{{_DOOR}}}[$__rate_interval]))", "{{status}}"),
                    unit="reqps",
                    stacked=StackingMode.NORMAL,
                ),
                lines(
                    "Predictions in progress",
                    "Running and waiting requests in predict. A plateau is the limit: further requests get 503.",
                    Query("sum by (instance) (rayonnage_predict_in_flight)", "{{instance}}"),
                    unit="short",
                ),
            ],
            "Refused requests": [
                lines(
                    "Rate limits",
                    "Requests per second refused with 429: a client sends too much, or the rate limit is too low "
                    "(PREDICT_RATE_LIMIT).",
                    Query("sum(rate(rayonnage_rate_limit_hits_total[$__rate_interval]))", "refused"),
                    unit="reqps",
                    width=12,
                ),
                lines(
                    "Login failures",
                    "By reason. Many in a short time: someone guesses passwords. docs/runbook.md, LoginFailures",
                    Query("sum by (reason) (rate(rayonnage_login_failures_total[$__rate_interval]))", "{{reason}}"),
                    unit="reqps",
                    width=12,
                ),
            ],
            "Restarts": [
                lines(
                    "Uptime",
                    "Uptime of each process. A sawtooth shape means that a process keeps crashing.",
                    Query(f"time() - process_start_time_seconds{{{_OURS}}}", "{{job}} {{instance}}"),
                    unit="s",
                    width=12,
                ),
                number(
                    "Restarts in the time range",
                    "Restarts of each service's processes under the same address. A new container may have a new "
                    "address: see `Hosts and containers` too.",
                    Query(f"sum by (job) (changes(process_start_time_seconds{{{_OURS}}}[$__range]))", "{{job}}"),
                    unit="short",
                    width=12,
                    steps=((None, GOOD), (1, WARNING), (3, BAD)),
                    curve=False,
                ),
            ],
        },
    )
