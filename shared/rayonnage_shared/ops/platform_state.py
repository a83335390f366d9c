"""The state of the platform as seen from outside: from its processes, its volumes and its database.

Read-only. All requests run at the same time, each with a timeout; a part that cannot be read is reported as such.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit, urlunsplit

from rayonnage_shared.core.healthcheck import probe_health
from rayonnage_shared.core.processes import EnvironmentValues, Process
from rayonnage_shared.core.settings import DatabaseSettings, StorageSettings
from rayonnage_shared.drift.schemas import DriftReport
from rayonnage_shared.jobs.schemas import Job
from rayonnage_shared.ops.prometheus_text import Readings
from rayonnage_shared.ops.supervision import ProcessState, Supervisor

if TYPE_CHECKING:
    from sqlalchemy import Engine

T = TypeVar("T")

ASK_TIMEOUT_S = 1.5
DATABASE_WAIT_S = 2
TRAFFIC_OVER_S = 30
"""Length of the window of rates and quantiles; shorter just after the start."""
JOBS_SHOWN = 5
_QUESTIONS_AT_ONCE = 32
_MAX_PAGE_BYTES = 20_000_000
_SPAWNED = re.compile(r"INFO spawned: '([^']+)' with pid")
_BEGAN = "INFO supervisord started with pid"


class DashboardSettings(StorageSettings, DatabaseSettings):
    """Settings of the dashboard, beside the addresses of the processes."""


@dataclass(frozen=True)
class ServiceState:
    """One process, or the replicas that share its name in a container network."""

    name: str
    trouble: str | None
    """Why it is not ready, or None."""
    replicas: int
    """Number of processes that returned their metrics."""
    pid: int | None
    uptime: timedelta | None
    memory_bytes: float | None
    restarts: int | None


@dataclass(frozen=True)
class ChampionState:
    """The champion on the volume, and the versions that predict serves."""

    version: str
    families: str
    trained_at: datetime | None
    f1_macro: float | None
    f1_weighted: float | None
    served: frozenset[str]


@dataclass(frozen=True)
class Traffic:
    """Recent traffic of the gateway and predict; a field is None if it cannot be computed."""

    over_s: float
    requests_per_s: float | None
    failed_per_s: float | None
    refused_per_s: float | None
    predictions_per_s: float | None
    p50_s: float | None
    p99_s: float | None
    accepted: float | None
    """Share of the predictions with the decision `accept`."""
    in_flight: float | None


@dataclass(frozen=True)
class LogState:
    """Counters of the prediction log since predict started."""

    written: float
    waiting: float
    dropped: float


@dataclass(frozen=True)
class Picture:
    """The whole state at one moment; `troubles` has the reason for each part that could not be read."""

    at: datetime
    services: tuple[ServiceState, ...]
    champion: ChampionState | None
    jobs: tuple[Job, ...]
    traffic: Traffic | None
    drift: DriftReport | None
    log: LogState | None
    troubles: dict[str, str] = field(default_factory=dict)


_Pages = dict[str, Readings]
"""The metrics of a service by address."""


@dataclass(frozen=True)
class _Answer:
    trouble: str | None
    pages: _Pages
    """More than one if the name resolves to several containers."""


class Watcher:
    """Reads the state repeatedly; rates are computed between two calls of `look`."""

    def __init__(self, home: Path, values: EnvironmentValues, settings: DashboardSettings) -> None:
        self._settings = settings
        self._supervisor = Supervisor(home, values)
        self._seen: deque[tuple[float, Mapping[str, _Pages]]] = deque()
        self._threads = ThreadPoolExecutor(_QUESTIONS_AT_ONCE, thread_name_prefix="look")
        self._engine: Engine | None = None

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._engine is not None:
            self._engine.dispose()

    def look(self) -> Picture:
        """Return the current state. Takes 4 s if nothing answers; never raises because something is down."""
        states = self._supervisor.states()
        supervisor = self._supervisor.as_started() if states else self._supervisor
        asked = [
            (process, self._threads.submit(self._ask, process, supervisor.values)) for process in supervisor.processes
        ]
        troubles: dict[str, str] = {}
        restarts = _restarts(self._supervisor.folder) if states else {}
        jobs = _tried("jobs", troubles, self._jobs) or ()
        drift = _tried("drift", troubles, self._drift)
        answers = [(process, future.result()) for process, future in asked]
        pages: dict[str, _Pages] = {}
        for process, answer in answers:
            pages.setdefault(process.service, {}).update(answer.pages)
        predict = Readings.together(pages["predict"].values())
        champion = _tried("champion", troubles, lambda: self._champion(predict))
        return Picture(
            at=datetime.now(UTC),
            services=tuple(
                _service_state(process, answer, states.get(process.name), restarts) for process, answer in answers
            ),
            champion=champion,
            jobs=tuple(jobs),
            traffic=self._traffic(pages),
            drift=drift,
            log=_log_state(predict),
            troubles=troubles,
        )

    def _ask(self, process: Process, values: EnvironmentValues) -> _Answer:
        """Request a process's readiness and metrics, the metrics from each address behind its name."""
        url = process.metrics_url(values)
        pages = {}
        for address in _addresses(url) if url else ():
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                pages[address] = Readings.of(_fetch(address))
        probe = process.probe_url(values)
        trouble = probe_health(probe, timeout_s=ASK_TIMEOUT_S) if probe else None
        return _Answer(trouble, pages)

    def _jobs(self) -> list[Job]:
        from rayonnage_shared.database.engine import open_database
        from rayonnage_shared.jobs.queue import JobQueue

        if self._engine is None:
            path = _sqlite_path(self._settings.database_url)
            if path is not None and not path.is_file():
                raise FileNotFoundError("there is no database yet")
            self._engine = open_database(self._settings.database_url, wait_s=DATABASE_WAIT_S)
        return JobQueue(self._engine).list(limit=JOBS_SHOWN)

    def _drift(self) -> DriftReport | None:
        from rayonnage_shared.drift.report_files import DriftReportNotFound, read_report, report_ids

        for report_id in report_ids(self._settings.data_path)[:2]:
            with contextlib.suppress(DriftReportNotFound):  # pruned since, or being written
                return read_report(self._settings.data_path, report_id)
        return None

    def _champion(self, predict: Readings) -> ChampionState | None:
        from rayonnage_shared.ml.bundles.champion import read_champion
        from rayonnage_shared.ml.bundles.manifest import read_manifest

        champion = read_champion(self._settings.models_path)
        if champion is None:
            return None
        manifest = read_manifest(self._settings.models_path, champion.version)
        return ChampionState(
            version=champion.version,
            families=" + ".join(manifest.families.present().values()),
            trained_at=manifest.created_at,
            f1_macro=manifest.metrics.get("f1_macro"),
            f1_weighted=manifest.metrics.get("f1_weighted"),
            served=frozenset(labels["version"] for labels in predict.labels("rayonnage_champion_info")),
        )

    def _traffic(self, pages: Mapping[str, _Pages]) -> Traffic | None:
        now = time.monotonic()
        self._seen.append((now, pages))
        while len(self._seen) > 2 and now - self._seen[1][0] >= TRAFFIC_OVER_S:
            self._seen.popleft()
        since, before = self._seen[0]
        over = now - since
        if not over:
            return None
        gateway = _increase(before["gateway"], pages["gateway"])
        predict = _increase(before["predict"], pages["predict"])
        statuses = gateway.by("http_requests_total", "status")
        decisions = predict.by("rayonnage_predictions_total", "decision")
        predictions = sum(decisions.values())
        return Traffic(
            over_s=over,
            requests_per_s=_rate(sum(statuses.values()), over, known=gateway),
            failed_per_s=_rate(sum(n for status, n in statuses.items() if status[:1] == "5"), over, known=gateway),
            refused_per_s=_rate(statuses.get("429", 0.0), over, known=gateway),
            predictions_per_s=_rate(predictions, over, known=predict),
            p50_s=gateway.quantile(0.5, "http_request_duration_seconds", handler="/predict"),
            p99_s=gateway.quantile(0.99, "http_request_duration_seconds", handler="/predict"),
            accepted=decisions.get("accept", 0.0) / predictions if predictions else None,
            in_flight=Readings.together(pages["predict"].values()).total("rayonnage_predict_in_flight"),
        )


def _tried(part: str, troubles: dict[str, str], read: Callable[[], T]) -> T | None:
    """Return the result of `read`, or None after writing the error to `troubles`, so that the rest is still shown."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - one broken part must not hide the others
        troubles[part] = (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__
        return None


def _service_state(
    process: Process, answer: _Answer, state: ProcessState | None, restarts: dict[str, int]
) -> ServiceState:
    started = max((page.total("process_start_time_seconds") or 0.0 for page in answer.pages.values()), default=0.0)
    resident = [page.total("process_resident_memory_bytes") for page in answer.pages.values()]
    memory = [found for found in resident if found is not None]
    if state is not None and state.pid:
        uptime: timedelta | None = timedelta(seconds=round(state.uptime_s))
    else:
        uptime = timedelta(seconds=max(0, round(time.time() - started))) if started else None
    trouble = answer.trouble
    if state is not None and not state.pid:
        trouble = f"not running ({state.state})"
    return ServiceState(
        name=process.name,
        trouble=trouble,
        replicas=len(answer.pages),
        pid=state.pid if state else None,
        uptime=uptime,
        memory_bytes=sum(memory) if memory else None,
        restarts=restarts.get(process.name),
    )


def _log_state(predict: Readings) -> LogState | None:
    written = predict.total("rayonnage_prediction_log_written_total")
    if written is None:
        return None
    return LogState(
        written=written,
        waiting=predict.total("rayonnage_prediction_log_waiting") or 0.0,
        dropped=predict.total("rayonnage_prediction_log_dropped_total") or 0.0,
    )


def _increase(before: _Pages, now: _Pages) -> Readings:
    """Return the increase over all processes that answered both times. A restart resets one process's counters."""
    return Readings.together(page.since(before[address]) for address, page in now.items() if address in before)


def _rate(count: float, over_s: float, *, known: Readings) -> float | None:
    return count / over_s if known.samples else None


def _addresses(url: str) -> Iterator[str]:
    """Yield `url` once for each IP address that its host name resolves to."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except OSError:
        return
    for host in sorted({str(one[4][0]) for one in found}):
        yield urlunsplit(parts._replace(netloc=f"{f'[{host}]' if ':' in host else host}:{parts.port}"))


def _fetch(url: str) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ASK_TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read(_MAX_PAGE_BYTES)
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise ValueError(f"answers {answer.status}")
    return body.decode()


def _restarts(folder: Path) -> dict[str, int]:
    """Return how often supervisord has restarted each process, from its log, which is limited to 1 MB."""
    counts: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in (folder / "supervisord.log").read_text(encoding="utf-8", errors="replace").splitlines():
            if _BEGAN in line:
                counts.clear()
            elif found := _SPAWNED.search(line):
                counts[found[1]] = counts.get(found[1], 0) + 1
    return {name: count - 1 for name, count in counts.items()}


def _sqlite_path(url: str) -> Path | None:
    from sqlalchemy import make_url

    address = make_url(url)
    if address.get_backend_name() != "sqlite" or not address.database or address.database == ":memory:":
        return None
    return Path(address.database)
