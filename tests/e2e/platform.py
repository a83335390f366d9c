"""The whole platform for a test: the process list of `make run`, on free ports, in a folder of its own.

with running_platform(tmp_path, {"PREDICT_RATE_LIMIT": "3/minute"}, volume=trained) as platform:
    platform.client(platform.admin_token()).get("/users/me")
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayonnage_shared.core import host
from rayonnage_shared.core.processes import PROCESSES, Process
from rayonnage_shared.ops.env_file import complete_env_file, effective
from rayonnage_shared.ops.settings_catalogue import all_settings
from rayonnage_shared.ops.supervision import MARK, Supervisor
from tests.e2e.deployment import Deployment
from tests.ports import free_ports, free_ports_of_replicas
from tests.waiting import PATIENCE_S

DIES_WITH_ITS_PARENT = (
    # Linux ends the supervisor, and it its children, even when the test run is killed with -9.
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, int(signal.SIGTERM)); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class Platform(Deployment):
    """A running platform: where it is, who may log in, and how to disturb it."""

    supervisor: Supervisor

    @property
    def home(self) -> Path:
        """The folder with `.env`, `data`, `models` and `logs`."""
        return self.supervisor.home

    @property
    def values(self) -> Mapping[str, str]:
        """The settings by upper-case name."""
        return self.supervisor.values

    @property
    def base_url(self) -> str:
        """The gateway's address."""
        return self.url("gateway")

    @property
    def admin(self) -> tuple[str, str]:
        """The first admin's name and password."""
        return self.values["ADMIN_USERNAME"], self.values["ADMIN_PASSWORD"]

    def url(self, name: str) -> str:
        """Return the own address of a service, or of one of its replicas, past the gateway."""
        port = self._process(name).port
        assert port is not None, f"{name} serves no HTTP"
        return port.address(self.values)

    def metrics_url(self, name: str) -> str:
        """Return the address of a process's metrics."""
        url = self._process(name).metrics_url(self.values)
        assert url is not None
        return url

    def _process(self, name: str) -> Process:
        return {one.name: one for one in self.supervisor.processes}[name]

    def promotions(self) -> list[dict[str, Any]]:
        with sqlite3.connect(f"file:{self.home}/data/rayonnage.db?mode=ro", uri=True) as database:
            database.row_factory = sqlite3.Row
            rows = [dict(row) for row in database.execute("SELECT * FROM promotions ORDER BY move_id")]
        database.close()
        return rows

    def pid(self, name: str) -> int | None:
        """Return a process's id, or None while it is down."""
        state = self.supervisor.states().get(name)
        return state.pid if state else None

    def kill(self, name: str) -> int:
        """End a process with SIGKILL and return its id; the supervisor starts it again."""
        pid = self.pid(name)
        assert pid is not None, f"{name} is not running"
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self, name: str) -> None:
        """Stop one process until `start`."""
        self.supervisor.stop_process(name)

    def start(self, name: str) -> None:
        """Start a process that was stopped."""
        self.supervisor.start_process(name)

    def wait_until_ready(self, within_s: float = PATIENCE_S, need_only_live: Collection[str] = ()) -> None:
        """Return when every process is ready, or live; else fail with the reasons and the ends of their logs."""
        missing = self.supervisor.wait_until_ready(within_s, need_only_live)
        assert not missing, "\n".join(f"{name}: {reason}\n{self.log_tail(name)}" for name, reason in missing.items())

    def has_logged(self, name: str, *words: str) -> bool:
        """Return whether a process has written a line with all these words."""
        path = self.supervisor.logs / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        return any(all(word in line for word in words) for line in lines)

    def log_tail(self, name: str, lines: int = 20) -> str:
        """Return the last lines that a process wrote."""
        parts = []
        for path in (self.supervisor.logs / f"{name}.log", self.supervisor.stderr_log(name)):
            with contextlib.suppress(OSError):
                parts += path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "\n".join(parts)


@contextlib.contextmanager
def running_platform(
    home: Path, settings: Mapping[str, str] | None = None, *, volume: Path | None = None
) -> Iterator[Platform]:
    """Start the platform in the empty folder `home` and end it, whatever happens.

    `settings` go into its `.env`; `volume` holds `data` and `models` to begin with, or there is nothing yet and the
    platform counts as started when all but predict is ready. Settings of the surrounding environment do not reach it.
    """
    home.mkdir(parents=True, exist_ok=True)
    write_settings(home, settings or {})
    if volume is not None:
        shutil.copytree(volume, home, dirs_exist_ok=True)
    platform = Platform(Supervisor(home, effective(home, {})))
    daemon = platform.supervisor.start(
        launcher=[sys.executable, "-c", DIES_WITH_ITS_PARENT], inherited=environment_without_settings()
    )
    try:
        platform.wait_until_ready(need_only_live={"predict"} if volume is None else set())
        yield platform
    finally:
        platform.supervisor.stop()
        daemon.wait(PATIENCE_S)
        left = host.marked(MARK, str(platform.supervisor.folder))
        assert not left, f"still running: {[host.command_line(pid) for pid in left]}"


def write_settings(home: Path, settings: Mapping[str, str]) -> None:
    """Write `home/.env`: free ports, a first admin, no limit on rates, patience; over these `settings`."""
    ports = [port.setting for one in PROCESSES for port in one.ports()]
    chosen = dict(zip(ports, map(str, free_ports(len(ports))), strict=True))
    chosen |= {"PREDICT_RATE_LIMIT": "off", "LOG_LEVEL": "info", "MLFLOW_TRACKING_URI": "", "DVC_REMOTE_URL": ""}
    chosen["PREDICT_MAX_WAIT_S"] = "60"  # the machine may be busy, and then requests are refused
    if "PREDICT_REPLICAS" in settings:
        chosen["PREDICT_PORT"] = str(free_ports_of_replicas(int(settings["PREDICT_REPLICAS"])))
    chosen |= settings
    (home / ".env").write_text("".join(f"{name}={value}\n" for name, value in chosen.items()), encoding="utf-8")
    complete_env_file(home, {})


def environment_without_settings() -> dict[str, str]:
    """Return this process's environment without anything that is a setting of the platform."""
    names = {setting.name for setting in all_settings()}
    return {name: value for name, value in os.environ.items() if name.upper() not in names}
