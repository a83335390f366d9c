"""CPU, memory, disk and network of the machine and the containers, and the monitoring itself."""

from __future__ import annotations

from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import Dashboard

from deployments.grafana.dashboards.panels import BAD, GOOD, WARNING, Query, bars, lines, number, page, variable

_AVAILABLE = "instance_mountpoint:node_filesystem_avail:ratio"
_NODE = 'instance=~"$node"'
_IN = '{name=~"$container",name!=""}'
_OURS = 'job=~"auth|ingest|train|train-worker|predict|gateway"'


def hosts() -> Dashboard:
    """Return the dashboard."""
    return page(
        "Rayonnage: hosts and containers",
        "CPU, memory and disk of the machine and the containers. docs/monitoring.md",
        uid="rayonnage-hosts",
        choices=[
            variable("Machine", "label_values(node_uname_info, instance)", name="node"),
            variable("Container", 'label_values(container_last_seen{name!=""}, name)', name="container"),
        ],
        sections={
            "The machine": [
                lines(
                    "CPU by mode",
                    "All CPUs together are 100 %. iowait: waiting for the disk; steal: used by another VM.",
                    Query(
                        f'sum by (mode) (rate(node_cpu_seconds_total{{{_NODE},mode!="idle"}}[$__rate_interval]))'
                        f' / scalar(count(node_cpu_seconds_total{{{_NODE},mode="idle"}}))',
                        "{{mode}}",
                    ),
                    unit="percentunit",
                    most=1,
                    stacked=StackingMode.NORMAL,
                ),
                lines(
                    "Load per CPU",
                    "Running and waiting processes. Above 1 for long: requests wait for a CPU, which raises p99.",
                    Query(
                        f"node_load5{{{_NODE}}} / on (instance) group_left () count by (instance) "
                        f'(node_cpu_seconds_total{{{_NODE},mode="idle"}})',
                        "{{instance}}",
                    ),
                    unit="short",
                    steps=((None, GOOD), (1, WARNING)),
                ),
                lines(
                    "Memory in use",
                    "Used by programs, without the page cache. Near 100 % the kernel kills processes.",
                    Query(f"instance:node_memory_used:ratio{{{_NODE}}}", "{{instance}}"),
                    unit="percentunit",
                    most=1,
                    steps=((None, GOOD), (0.9, BAD)),
                ),
                bars(
                    "Disks in use",
                    "Used share of each file system. A full disk stops databases, datasets and logs. docs/runbook.md",
                    Query(
                        f"sort_desc(max by (mountpoint) (1 - {_AVAILABLE}{{{_NODE}}}))",
                        "{{mountpoint}}",
                    ),
                    unit="percentunit",
                    most=1,
                    steps=((None, GOOD), (0.8, WARNING), (0.9, BAD)),
                ),
                lines(
                    "Disk I/O",
                    "Bytes per second. High together with iowait: the platform waits for the disk.",
                    Query(f"sum(rate(node_disk_read_bytes_total{{{_NODE}}}[$__rate_interval]))", "read"),
                    Query(f"sum(rate(node_disk_written_bytes_total{{{_NODE}}}[$__rate_interval]))", "written"),
                    unit="Bps",
                ),
                lines(
                    "Network",
                    "Bytes per second, without loopback. Photos come in, little goes out.",
                    *(
                        Query(
                            f'sum(rate(node_network_{way}_bytes_total{{{_NODE},device!="lo"}}[$__rate_interval]))',
                            legend,
                        )
                        for way, legend in (("receive", "in"), ("transmit", "out"))
                    ),
                    unit="Bps",
                ),
            ],
            "Containers": [
                lines(
                    "CPU by container",
                    "1 is one fully used CPU. docker-compose.yml limits each container (cpus).",
                    Query(
                        f"sum by (name) (rate(container_cpu_usage_seconds_total{_IN}[$__rate_interval]))",
                        "{{name}}",
                    ),
                    unit="short",
                ),
                lines(
                    "CPU throttling",
                    "Fraction of periods in which a container was throttled. If predict is: raise cpus, or add a "
                    "replica.",
                    Query(
                        f"sum by (name) (rate(container_cpu_cfs_throttled_periods_total{_IN}[$__rate_interval]))"
                        f" / sum by (name) (rate(container_cpu_cfs_periods_total{_IN}[$__rate_interval]))",
                        "{{name}}",
                    ),
                    unit="percentunit",
                    most=1,
                ),
                bars(
                    "Memory relative to the limit",
                    "At 100 % the kernel kills the container's largest process.",
                    Query(f"sort_desc(name:container_memory_used:ratio{_IN})", "{{name}}"),
                    unit="percentunit",
                    most=1,
                    steps=((None, GOOD), (0.8, WARNING), (0.95, BAD)),
                ),
                lines(
                    "Memory by container",
                    "A curve that grows forever is a leak.",
                    Query(f"max by (name) (container_memory_working_set_bytes{_IN})", "{{name}}"),
                    unit="bytes",
                ),
                bars(
                    "Restarts in the time range",
                    "Restarts of each container. More than planned restarts is a crash loop.",
                    Query(f"sum by (name) (changes(container_start_time_seconds{_IN}[$__range]))", "{{name}}"),
                    unit="short",
                    steps=((None, GOOD), (1, WARNING), (3, BAD)),
                ),
                bars(
                    "Out-of-memory kills",
                    "Processes of the container killed for its memory limit, in the time range.",
                    Query(f"sum by (name) (increase(container_oom_events_total{_IN}[$__range]))", "{{name}}"),
                    unit="short",
                    steps=((None, GOOD), (1, BAD)),
                ),
            ],
            "Rayonnage processes": [
                lines(
                    "Memory by process",
                    "Resident memory. Predict holds one bundle, two during a promotion.",
                    Query(f"process_resident_memory_bytes{{{_OURS}}}", "{{job}} {{instance}}"),
                    unit="bytes",
                ),
                lines(
                    "CPU by process",
                    "1 is one fully used CPU. Predict at its number of CPUs is at capacity.",
                    Query(f"rate(process_cpu_seconds_total{{{_OURS}}}[$__rate_interval])", "{{job}} {{instance}}"),
                    unit="short",
                ),
                lines(
                    "Open files relative to the limit",
                    "Includes connections. Near 100 % new ones are refused.",
                    Query(f"process_open_fds{{{_OURS}}} / process_max_fds{{{_OURS}}}", "{{job}} {{instance}}"),
                    unit="percentunit",
                    most=1,
                    steps=((None, GOOD), (0.8, BAD)),
                ),
            ],
            "Monitoring": [
                number(
                    "Targets up",
                    "All scrape targets, including exporters and Prometheus itself.",
                    Query("sum by (job) (up)", "{{job}}"),
                    unit="short",
                    width=18,
                    steps=((None, BAD), (1, GOOD)),
                    curve=False,
                ),
                number(
                    "Rule evaluation works",
                    "The alert Watchdog always fires. If it does not, Prometheus evaluates no rules.",
                    Query('count(ALERTS{alertname="Watchdog",alertstate="firing"}) or vector(0)', "watchdog"),
                    unit="short",
                    width=6,
                    words={"0": ("NO", BAD), "1": ("yes", GOOD)},
                    curve=False,
                ),
                lines(
                    "Notifications sent and failed",
                    "Sent by Alertmanager. Failed: check Slack's webhook; docs/runbook.md, NotificationsFailing",
                    Query("sum(rate(alertmanager_notifications_total[$__rate_interval]))", "sent"),
                    Query("sum(rate(alertmanager_notifications_failed_total[$__rate_interval]))", "failed"),
                    unit="reqps",
                ),
                lines(
                    "Scrape duration",
                    "Scrapes time out after 5 s (scrape_timeout); the process then counts as down.",
                    Query("max by (job) (scrape_duration_seconds)", "{{job}}"),
                    unit="s",
                ),
                lines(
                    "Series in memory",
                    "Should stay flat: a metric with unbounded labels shows here first.",
                    Query("max(prometheus_tsdb_head_series)", "series"),
                    unit="short",
                ),
            ],
        },
    )
