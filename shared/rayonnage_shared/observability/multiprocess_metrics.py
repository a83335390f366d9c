"""What a scrape gets: this process's metrics, or those of all workers where several processes share a port.

Workers write their values to mapped files, which know no removal: what is forgotten is left out when they are read.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from rayonnage_shared.core.prefork import Worker, this_worker

VERSIONS_KEPT = 3
VERSION_LABEL = "model_version"


def exposition() -> bytes:
    """Return all metrics in Prometheus' text form; takes some milliseconds where there are workers."""
    worker = this_worker()
    if worker is None:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_AllWorkers(worker.folder))
    registry.register(_AllProcesses(worker))
    PlatformCollector(registry=registry)
    return generate_latest(registry)


def forget(gauge: Gauge, *labels: str) -> None:
    """Take a series of a gauge away; a value of 0 says so to the other workers, since that is none that it can have."""
    if this_worker() is None:
        gauge.remove(*labels)
    else:
        gauge.labels(*labels).set(0)


class RecentVersions:
    """Keeps a counter's series for the versions that served last, so that promotions do not add series for ever."""

    _all: list[RecentVersions] = []  # noqa: RUF012 - every counter of this process, for scrapes

    def __init__(self, counter: Counter, kept: int = VERSIONS_KEPT) -> None:
        self._counter = counter
        self._kept = kept
        self._versions: list[str] = []
        self._latest = ""
        self._lock = threading.Lock()
        self._all.append(self)

    def served(self, version: str) -> None:
        """Note that a version serves; costs an attribute and a comparison while it is the same as before."""
        if version != self._latest:
            with self._lock:
                self._put_first(version)

    def _put_first(self, version: str) -> None:
        self._versions = [version, *(one for one in self._versions if one != version)]
        self._latest = version
        if this_worker() is None:
            for old in self._versions[self._kept :]:
                self._counter.remove_by_labels({VERSION_LABEL: old})
        del self._versions[self._kept :]

    @classmethod
    def kept(cls) -> frozenset[str]:
        """Return the versions whose series are shown."""
        return frozenset(version for one in cls._all for version in one._versions)


class _AllWorkers(Collector):
    """What all workers have counted, those that were replaced included."""

    def __init__(self, folder: Path) -> None:
        self._files = MultiProcessCollector(None, path=str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        versions = RecentVersions.kept()
        for metric in self._files.collect():  # type: ignore[no-untyped-call]
            if metric.name.endswith("_info"):
                metric.samples = [sample for sample in metric.samples if sample.value]
            if versions:
                metric.samples = [
                    sample for sample in metric.samples if sample.labels.get(VERSION_LABEL, "") in {"", *versions}
                ]
            yield metric


class _AllProcesses(Collector):
    """The `process_*` metrics of the parent and its workers together.

    CPU time counts workers that have ended, or a replacement would look like a new start. What describes one
    interpreter, `python_gc_*`, has no sum and is not shown.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterable[Metric]:
        pids = [self._worker.parent, *self._worker.pids()]
        found = [_process_metrics(pid) for pid in pids]
        sums = {
            name: sum(one[name].samples[0].value for one in found if name in one)
            for name in ("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds")
        }
        for name, value in sums.items():
            yield GaugeMetricFamily(name, "Of the parent and its workers together.", value=value)
        for name in ("process_start_time_seconds", "process_max_fds"):
            if name in found[0]:
                yield found[0][name]
        cpu = sum(one["process_cpu_seconds"].samples[0].value for one in found if "process_cpu_seconds" in one)
        cpu += _cpu_seconds_of_the_dead(self._worker.parent)
        yield CounterMetricFamily("process_cpu_seconds", "Of the parent and all its workers ever.", value=cpu)


def _process_metrics(pid: int) -> dict[str, Metric]:
    return {metric.name: metric for metric in ProcessCollector(pid=lambda: pid, registry=None).collect()}


def _cpu_seconds_of_the_dead(parent: int) -> float:
    """Return the CPU time of a process's children that have ended (proc(5): cutime, cstime)."""
    import os

    with contextlib.suppress(OSError, ValueError, IndexError):
        columns = Path(f"/proc/{parent}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (float(columns[13]) + float(columns[14])) / os.sysconf("SC_CLK_TCK")
    return 0.0
