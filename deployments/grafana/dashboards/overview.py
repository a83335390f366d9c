"""The first page of whoever is woken up: is it up, are the promises kept, who is refused, what was started anew."""

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
"""As deployments/prometheus/rules/slo.yml promises; a test compares them."""
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
        "Is the platform up, does it keep its promises, and who is refused? docs/monitoring.md, docs/runbook.md",
        uid="rayonnage-overview",
        choices=[variable("Service", "label_values(http_requests_total, job)", name="job")],
        sections={
            "Is it up?": [
                number(
                    "Processes that answer",
                    "Processes of each service that answer Prometheus. 0: it is down. docs/runbook.md, ProcessDown",
                    Query(f"sum by (job) (up{{{_OURS}}})", "{{job}}"),
                    unit="short",
                    width=14,
                    steps=((None, BAD), (1, GOOD)),
                    curve=False,
                ),
                number(
                    "Alerts that fire",
                    "They go to Slack, too. What to do is in docs/runbook.md, by the alert's name.",
                    Query(f"count({_FIRING}) or vector(0)", "alerts"),
                    unit="short",
                    steps=((None, GOOD), (1, BAD)),
                ),
                name(
                    "Champion",
                    "The bundle that serves.",
                    Query("max by (version, family) (rayonnage_champion_info)", "{{version}} ({{family}})"),
                ),
            ],
            "Promises": [
                number(
                    "Availability: budget left",
                    "Of 1,000 requests in 30 days one may fail (5xx at the gateway). 100 %: none did; below 0: the "
                    "promise is broken. docs/runbook.md, AvailabilityBurning",
                    Query(f"1 - ({_FAILED} or vector(0)) / {_ALL} / {AVAILABILITY_BUDGET}", "left"),
                    unit="percentunit",
                    width=6,
                    steps=_BUDGET_STEPS,
                    instant=True,
                ),
                number(
                    "Speed: budget left",
                    "Of 100 predictions in 30 days one may take longer than 250 ms. docs/runbook.md, LatencyBurning",
                    Query(f"1 - (1 - {_IN_TIME} / {_TIMED}) / {LATENCY_BUDGET}", "left"),
                    unit="percentunit",
                    width=6,
                    steps=_BUDGET_STEPS,
                    instant=True,
                ),
                number(
                    "Freshness: time left",
                    "Until the model that serves is 30 days old. Below 0: train anew. docs/runbook.md, ModelTooOld",
                    Query(f"{FRESHNESS_DAYS} * 86400 - max(job:rayonnage_champion_age_seconds:max)", "left"),
                    unit="s",
                    width=6,
                    steps=((None, BAD), (0, WARNING), (7 * 86_400, GOOD)),
                    curve=False,
                ),
                number(
                    "p99 of /predict, 5 minutes",
                    "At the gateway, as the callers see it.",
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
                        "1 is as fast as the month allows. A page goes out at 14.4 over an hour, or 6 over six hours, "
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
                        ("Speed: burn rate", "job_handler:http_requests_slow_per_answer", LATENCY_BUDGET),
                    )
                ),
                rows(
                    "Which alerts fire",
                    "Empty is good. What to do stands in docs/runbook.md under the alert's name.",
                    Query(f"max by (alertname, severity, job) ({_FIRING})"),
                    columns={"alertname": "Alert", "severity": "Severity", "job": "Where"},
                    unit="short",
                    width=8,
                ),
            ],
            "Traffic": [
                lines(
                    "Requests a second by service",
                    "What comes in. A sudden fall with all else green: look in front of the gateway (nginx, DNS).",
                    Query(f"sum by (job) (rate(http_requests_total{{{_CHOSEN}}}[$__rate_interval]))", "{{job}}"),
                    unit="reqps",
                ),
                lines(
                    "Errors by service (5xx)",
                    "Share of requests that failed through our fault. Above 0 at the gateway and at one service: "
                    "that service; at the gateway alone: a service that it cannot reach.",
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
                    "One request in a hundred takes longer. Ingest is slow by nature: it takes whole catalogues.",
                    Query(_quantile(0.99, _CHOSEN, "job, le"), "{{job}}"),
                    unit="s",
                ),
                rows(
                    "Slowest routes",
                    "The ten routes whose mean time is highest in the time shown.",
                    Query(
                        f"topk(10, sum by (job, handler) (increase({_SECONDS}_sum{{{_CHOSEN}}}[$__range]))"
                        f" / (sum by (job, handler) (increase({_SECONDS}_count{{{_CHOSEN}}}[$__range])) > 0))"
                    ),
                    columns={"job": "Service", "handler": "Route"},
                    unit="s",
                ),
                lines(
                    "Answers by status",
                    "Of the chosen services. 401 and 403: tokens; 413 and 422: what is sent; 429: too often; "
                    "503: no room, or no model.",
                    Query(f"sum by (status) (rate(http_requests_total{{{_CHOSEN}}}[$__rate_interval]))", "{{status}}"),
                    unit="reqps",
                    width=12,
                    stacked=StackingMode.NORMAL,
                ),
            ],
            "POST /predict at the gateway": [
                lines(
                    "Time of /predict",
                    "As the callers see it, token and forwarding included. Growing with `Predictions in work`: no "
                    "capacity left; growing alone: the machine is busy with something else.",
                    *(Query(_quantile(share, _DOOR), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
                    unit="s",
                    steps=_LATENCY_STEPS,
                ),
                lines(
                    "Answers of /predict by status",
                    "200 is a prediction.",
                    Query(f"sum by (status) (rate(http_requests_total{{{_DOOR}}}[$__rate_interval]))", "{{status}}"),
                    unit="reqps",
                    stacked=StackingMode.NORMAL,
                ),
                lines(
                    "Predictions in work",
                    "Requests that run or wait in predict. A plateau is its bound: what is beyond gets 503.",
                    Query("sum by (instance) (rayonnage_predict_in_flight)", "{{instance}}"),
                    unit="short",
                ),
            ],
            "Who is refused": [
                lines(
                    "Rate limits",
                    "Requests a second that were refused with 429 since a user asked too often. One client gone wild, "
                    "or a limit that is too low (PREDICT_RATE_LIMIT).",
                    Query("sum(rate(rayonnage_rate_limit_hits_total[$__rate_interval]))", "refused"),
                    unit="reqps",
                    width=12,
                ),
                lines(
                    "Login failures",
                    "By reason. Many in a short time: somebody guesses passwords. docs/runbook.md, LoginFailures",
                    Query("sum by (reason) (rate(rayonnage_login_failures_total[$__rate_interval]))", "{{reason}}"),
                    unit="reqps",
                    width=12,
                ),
            ],
            "Restarts": [
                lines(
                    "Up since",
                    "Age of each process. A saw-tooth is a process that dies again and again.",
                    Query(f"time() - process_start_time_seconds{{{_OURS}}}", "{{job}} {{instance}}"),
                    unit="s",
                    width=12,
                ),
                number(
                    "Starts in the time shown",
                    "How often the processes of each service were started anew under the same address. In containers a "
                    "new one may have a new address: see `Hosts and containers` too.",
                    Query(f"sum by (job) (changes(process_start_time_seconds{{{_OURS}}}[$__range]))", "{{job}}"),
                    unit="short",
                    width=12,
                    steps=((None, GOOD), (1, WARNING), (3, BAD)),
                    curve=False,
                ),
            ],
        },
    )
