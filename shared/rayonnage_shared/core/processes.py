"""The process list, from which `make run`, the end-to-end tests and the Prometheus targets are built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from rayonnage_shared.core.errors import InvalidSetting

MAX_REPLICAS = 16
REPLICA_PORT_STEP = 10
"""Replica n of a process listens on the port of its setting + 10 × (n − 1), such as 8003, 8013 and 8023."""

LOOPBACK = "127.0.0.1"
_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, never bound to

EnvironmentValues = Mapping[str, str]
"""Settings by upper-case name, as `ops.env_file.effective` returns them."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a process listens on: the settings that choose it, and the service's default."""

    setting: str
    default: int
    host_setting: str
    offset: int = 0
    """What is added to the setting; 0 for the first replica."""

    def __str__(self) -> str:
        return f"{self.setting} + {self.offset}" if self.offset else self.setting

    def number(self, values: EnvironmentValues) -> int:
        """Return the port. Raises InvalidSetting if it is not a port number."""
        highest = 65535 - self.offset
        allowed = f"a port number (1 to {highest})"
        return _whole_number(values, self.setting, self.default, highest, allowed) + self.offset

    def host(self, values: EnvironmentValues) -> str:
        """Return the address that the process binds to."""
        return values.get(self.host_setting) or LOOPBACK

    def address(self, values: EnvironmentValues) -> str:
        """Return `http://host:port` as seen from this machine."""
        host = self.host(values)
        host = LOOPBACK if host in _EVERYWHERE else host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.number(values)}"


@dataclass(frozen=True, slots=True)
class Process:
    """One process: run as `python -m module`; without any port it counts as ready while it is up."""

    service: str
    """Its Compose service and Prometheus job."""
    module: str
    port: Port | None = None
    metrics_port: Port | None = None
    """The metrics port, if it is not the main port."""
    url_setting: str | None = None
    """The setting by which other processes find this one."""
    environment: EnvironmentValues = field(default_factory=dict)
    replicas_setting: str | None = None
    """The setting that says how many replicas run, if there can be more than one."""
    replica: int = 1

    @property
    def name(self) -> str:
        """Return the name of the process and of its log file: `predict`, or `predict-2` for its second replica."""
        return self.service if self.replica == 1 else f"{self.service}-{self.replica}"

    @property
    def package(self) -> str:
        """Return the service's package, which holds its `settings` module."""
        return self.module.partition(".")[0]

    def ports(self) -> Iterator[Port]:
        """Yield every port that must be free before the process starts."""
        for port in (self.port, self.metrics_port):
            if port is not None:
                yield port

    def replicas(self, values: EnvironmentValues) -> Iterator[Process]:
        """Yield each replica. Raises InvalidSetting if the number of replicas is out of range."""
        count = 1
        if self.replicas_setting is not None:
            allowed = f"a number of replicas (1 to {MAX_REPLICAS})"
            count = _whole_number(values, self.replicas_setting, 1, MAX_REPLICAS, allowed)
        for number in range(1, count + 1):
            yield self._replica(number, values)

    def _replica(self, number: int, values: EnvironmentValues) -> Process:
        if number == 1:
            return self
        assert self.port is not None and self.metrics_port is None
        port = replace(self.port, offset=REPLICA_PORT_STEP * (number - 1))
        own = {port.setting: str(port.number(values)), f"{self.service.upper()}_REPLICA": str(number)}
        return replace(self, port=port, replica=number, environment={**self.environment, **own})

    def probe_url(self, values: EnvironmentValues, probe: str = "ready") -> str | None:
        """Return what answers 200 when the process is `ready`, or `live`; None when nothing can be asked.

        A process without health routes is asked for its metrics.
        """
        return f"{self.port.address(values)}/health/{probe}" if self.port else self.metrics_url(values)

    def metrics_url(self, values: EnvironmentValues) -> str | None:
        """Return the address that Prometheus scrapes; None for a process that has none."""
        port = self.metrics_port or self.port
        return f"{port.address(values)}/metrics" if port else None


def _whole_number(values: EnvironmentValues, setting: str, default: int, highest: int, allowed: str) -> int:
    text = values.get(setting) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= highest:
        raise InvalidSetting(f"{setting}={text} is not {allowed}")
    return int(text)


def _service(
    name: str,
    port: int,
    *,
    metrics_port: Port | None = None,
    found_by_url: bool = True,
    replicas_setting: str | None = None,
) -> Process:
    upper = name.upper()
    return Process(
        service=name,
        module=f"rayonnage_{name}",
        port=Port(f"{upper}_PORT", port, f"{upper}_HOST"),
        metrics_port=metrics_port,
        url_setting=f"{upper}_URL" if found_by_url else None,
        replicas_setting=replicas_setting,
    )


PROCESSES: tuple[Process, ...] = (
    _service("auth", 8011),
    _service("ingest", 8001),
    _service("train", 8002),
    Process(
        service="train-worker",
        module="rayonnage_train.worker",
        metrics_port=Port("TRAIN_WORKER_METRICS_PORT", 8012, "TRAIN_WORKER_METRICS_HOST"),
    ),
    _service("predict", 8003, replicas_setting="PREDICT_REPLICAS"),
    _service(
        "gateway",
        8000,
        metrics_port=Port("GATEWAY_METRICS_PORT", 8010, "GATEWAY_METRICS_HOST"),
        found_by_url=False,
    ),
)


def process(name: str) -> Process:
    """Return the process of this name. Raises KeyError."""
    return {one.name: one for one in PROCESSES}[name]


def with_replicas(values: EnvironmentValues, processes: Iterable[Process] = PROCESSES) -> tuple[Process, ...]:
    """Return the process list with each replica as a process of its own.

    Raises InvalidSetting if a number of replicas or a port of one is out of range.
    """
    return tuple(replica for one in processes for replica in one.replicas(values))


def address_settings(processes: Iterable[Process] = PROCESSES) -> Iterator[str]:
    """Yield the settings that decide where each process listens and how many replicas run."""
    for one in processes:
        if one.replicas_setting is not None:
            yield one.replicas_setting
        for port in one.ports():
            yield from (port.setting, port.host_setting)


def service_addresses(values: EnvironmentValues, processes: Iterable[Process] = PROCESSES) -> dict[str, str]:
    """Return the `*_URL` settings by which the processes find each other, unless the user has set them.

    The addresses of several replicas are separated by commas.
    """
    found: dict[str, list[str]] = {}
    for one in with_replicas(values, processes):
        if one.url_setting and one.port and not values.get(one.url_setting):
            found.setdefault(one.url_setting, []).append(one.port.address(values))
    return {setting: ",".join(addresses) for setting, addresses in found.items()}
