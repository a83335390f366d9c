"""Whether the machine and the containers have what they need, and whether anybody is watching."""

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
        "Whether machine and containers have the processors, memory and disk that they need. docs/monitoring.md",
        uid="rayonnage-hosts",
        choices=[
            variable("Machine", "label_values(node_uname_info, instance)", name="node"),
            variable("Container", 'label_values(container_last_seen{name!=""}, name)', name="container"),
        ],
        sections={
            "The machine": [
                lines(
                    "Processors, by what they do",
                    "All processors together are 100 %. iowait: waits for the disk; steal: another machine has them.",
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
                    "Load for each processor",
                    "Processes that run or wait. Above 1 for long: requests wait for a processor, and p99 shows it.",
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
                    "Share that programs hold; what caches files does not count. Near 100 %: something will be killed.",
                    Query(f"instance:node_memory_used:ratio{{{_NODE}}}", "{{instance}}"),
                    unit="percentunit",
                    most=1,
                    steps=((None, GOOD), (0.9, BAD)),
                ),
                bars(
                    "Disks in use",
                    "Share of each file system. A full disk stops databases, datasets and logs. docs/runbook.md",
                    Query(
                        f"sort_desc(max by (mountpoint) (1 - {_AVAILABLE}{{{_NODE}}}))",
                        "{{mountpoint}}",
                    ),
                    unit="percentunit",
                    most=1,
                    steps=((None, GOOD), (0.8, WARNING), (0.9, BAD)),
                ),
                lines(
                    "Disks: read and written",
                    "Bytes a second. Much of it while iowait is high: the disk is what the platform waits for.",
                    Query(f"sum(rate(node_disk_read_bytes_total{{{_NODE}}}[$__rate_interval]))", "read"),
                    Query(f"sum(rate(node_disk_written_bytes_total{{{_NODE}}}[$__rate_interval]))", "written"),
                    unit="Bps",
                ),
                lines(
                    "Network",
                    "Bytes a second, loopback left out. Photos come in, little goes out.",
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
                    "Processors by container",
                    "1 is one processor in full use. docker-compose.yml bounds each (cpus).",
                    Query(
                        f"sum by (name) (rate(container_cpu_usage_seconds_total{_IN}[$__rate_interval]))",
                        "{{name}}",
                    ),
                    unit="short",
                ),
                lines(
                    "Held back for lack of processor share",
                    "Share of the periods in which a container wanted more than its bound. Much of it on predict: "
                    "raise cpus, or add a replica.",
                    Query(
                        f"sum by (name) (rate(container_cpu_cfs_throttled_periods_total{_IN}[$__rate_interval]))"
                        f" / sum by (name) (rate(container_cpu_cfs_periods_total{_IN}[$__rate_interval]))",
                        "{{name}}",
                    ),
                    unit="percentunit",
                    most=1,
                ),
                bars(
                    "Memory against the limit",
                    "At 100 % the kernel ends the container's largest process.",
                    Query(f"sort_desc(name:container_memory_used:ratio{_IN})", "{{name}}"),
                    unit="percentunit",
                    most=1,
                    steps=((None, GOOD), (0.8, WARNING), (0.95, BAD)),
                ),
                lines(
                    "Memory by container",
                    "A curve that climbs without end is a leak.",
                    Query(f"max by (name) (container_memory_working_set_bytes{_IN})", "{{name}}"),
                    unit="bytes",
                ),
                bars(
                    "Starts in the time shown",
                    "How often each container was started anew. A planned restart is one; more is a crash loop.",
                    Query(f"sum by (name) (changes(container_start_time_seconds{_IN}[$__range]))", "{{name}}"),
                    unit="short",
                    steps=((None, GOOD), (1, WARNING), (3, BAD)),
                ),
                bars(
                    "Ended for lack of memory",
                    "Times that the kernel ended a process of the container for its memory, in the time shown.",
                    Query(f"sum by (name) (increase(container_oom_events_total{_IN}[$__range]))", "{{name}}"),
                    unit="short",
                    steps=((None, GOOD), (1, BAD)),
                ),
            ],
            "Our processes": [
                lines(
                    "Memory by process",
                    "Resident memory. Predict holds one bundle, two during a promotion.",
                    Query(f"process_resident_memory_bytes{{{_OURS}}}", "{{job}} {{instance}}"),
                    unit="bytes",
                ),
                lines(
                    "Processors by process",
                    "1 is one processor in full use. Predict at the number of its processors is at its capacity.",
                    Query(f"rate(process_cpu_seconds_total{{{_OURS}}}[$__rate_interval])", "{{job}} {{instance}}"),
                    unit="short",
                ),
                lines(
                    "Open files, as a share of the limit",
                    "Connections count too. Near 100 % new ones are refused.",
                    Query(f"process_open_fds{{{_OURS}}} / process_max_fds{{{_OURS}}}", "{{job}} {{instance}}"),
                    unit="percentunit",
                    most=1,
                    steps=((None, GOOD), (0.8, BAD)),
                ),
            ],
            "The watchers": [
                number(
                    "Targets that answer",
                    "The targets that Prometheus scrapes, exporters and itself included.",
                    Query("sum by (job) (up)", "{{job}}"),
                    unit="short",
                    width=18,
                    steps=((None, BAD), (1, GOOD)),
                    curve=False,
                ),
                number(
                    "Alerting works",
                    "The alert Watchdog always fires. When it does not, Prometheus does not reckon its rules.",
                    Query('count(ALERTS{alertname="Watchdog",alertstate="firing"}) or vector(0)', "watchdog"),
                    unit="short",
                    width=6,
                    words={"0": ("NO", BAD), "1": ("yes", GOOD)},
                    curve=False,
                ),
                lines(
                    "Messages sent and failed",
                    "What Alertmanager has sent. Failed: Slack or its address; docs/runbook.md, NotificationsFailing",
                    Query("sum(rate(alertmanager_notifications_total[$__rate_interval]))", "sent"),
                    Query("sum(rate(alertmanager_notifications_failed_total[$__rate_interval]))", "failed"),
                    unit="reqps",
                ),
                lines(
                    "Time to read a target",
                    "Prometheus gives up after 5 s (scrape_timeout), and the process then counts as down.",
                    Query("max by (job) (scrape_duration_seconds)", "{{job}}"),
                    unit="s",
                ),
                lines(
                    "Series in memory",
                    "Should stay flat: a metric whose labels are not bounded shows here first.",
                    Query("max(prometheus_tsdb_head_series)", "series"),
                    unit="short",
                ),
            ],
        },
    )
