"""The process list, from which `make run`, the end-to-end tests and the Prometheus targets are built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

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

    def number(self, values: EnvironmentValues) -> int:
        """Return the port. Raises ValueError, which names the setting, if it is not a port number."""
        text = values.get(self.setting) or str(self.default)
        if not text.isdecimal() or not 1 <= int(text) <= 65535:
            raise ValueError(f"{self.setting}={text} is not a port number (1 to 65535)")
        return int(text)

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

    name: str
    module: str
    port: Port | None = None
    metrics_port: Port | None = None
    """The metrics port, if it is not the main port."""
    url_setting: str | None = None
    """The setting by which other processes find this one."""
    environment: EnvironmentValues = field(default_factory=dict)

    @property
    def package(self) -> str:
        """Return the service's package, which holds its `settings` module."""
        return self.module.partition(".")[0]

    def ports(self) -> Iterator[Port]:
        """Yield every port that must be free before the process starts."""
        for port in (self.port, self.metrics_port):
            if port is not None:
                yield port

    def probe_url(self, values: EnvironmentValues, probe: str = "ready") -> str | None:
        """Return what answers 200 when the process is `ready`, or `live`; None when nothing can be asked.

        A process without health routes is asked for its metrics.
        """
        return f"{self.port.address(values)}/health/{probe}" if self.port else self.metrics_url(values)

    def metrics_url(self, values: EnvironmentValues) -> str | None:
        """Return the address that Prometheus scrapes; None for a process that has none."""
        port = self.metrics_port or self.port
        return f"{port.address(values)}/metrics" if port else None


def _service(name: str, port: int, *, metrics_port: Port | None = None, found_by_url: bool = True) -> Process:
    upper = name.upper()
    return Process(
        name=name,
        module=f"rayonnage_{name}",
        port=Port(f"{upper}_PORT", port, f"{upper}_HOST"),
        metrics_port=metrics_port,
        url_setting=f"{upper}_URL" if found_by_url else None,
    )


PROCESSES: tuple[Process, ...] = (
    _service("auth", 8011),
    _service("ingest", 8001),
    _service("train", 8002),
    Process(
        name="train-worker",
        module="rayonnage_train.worker",
        metrics_port=Port("TRAIN_WORKER_METRICS_PORT", 8012, "TRAIN_WORKER_METRICS_HOST"),
    ),
    _service("predict", 8003),
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


def service_addresses(values: EnvironmentValues, processes: tuple[Process, ...] = PROCESSES) -> dict[str, str]:
    """Return the `*_URL` settings by which the processes find each other, unless the user has set them."""
    return {
        one.url_setting: one.port.address(values)
        for one in processes
        if one.url_setting and one.port and not values.get(one.url_setting)
    }
