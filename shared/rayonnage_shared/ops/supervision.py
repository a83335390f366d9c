"""Run the process list under supervisord: its configuration, its start and stop, and the state that it reports."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rayonnage_shared.core import host
from rayonnage_shared.core.healthcheck import probe_health
from rayonnage_shared.core.processes import (
    PROCESSES,
    EnvironmentValues,
    Process,
    address_settings,
    service_addresses,
    with_replicas,
)

MARK = "RAYONNAGE_RUN"
"""Environment variable that every process of a run carries; its value is the run's folder."""

STOP_WAIT_S = 10
"""Seconds between SIGTERM and SIGKILL, as for containers; see `server.DRAIN_S`."""

MAX_SOCKET_PATH = 90  # the system's limit is 107 bytes (103 on macOS), and supervisord adds its process id
_START_S = 10  # a process that exits sooner is restarted after 1 s, then 2 s, …; a longer-lived one at once
_NO_ANSWER = (OSError, http.client.HTTPException, xmlrpc.client.Error)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """The state of one process, as supervisord reports it."""

    name: str
    state: str
    """`running`, or why there is no process: `stopped`, `backoff` (it failed and will be restarted), …"""
    pid: int | None
    uptime_s: float


class Supervisor:
    """Runs processes from `home`, the folder that holds `.env`; the files of the run are in `home/.run`."""

    def __init__(self, home: Path, values: EnvironmentValues, processes: Sequence[Process] = PROCESSES) -> None:
        self.home = home.resolve()
        self.values = values
        self._listed = tuple(processes)
        self.folder = self.home / ".run"
        self.logs = self.home / (values.get("LOGS_PATH") or "logs")
        self.socket = socket_path(self.folder)
        self._started_with = self.folder / "started-with.json"

    @cached_property
    def processes(self) -> tuple[Process, ...]:
        """The processes to run, each replica separately. Raises InvalidSetting."""
        return with_replicas(self.values, self._listed)

    def as_started(self) -> Supervisor:
        """Return this supervisor with the ports and replicas that the platform was started with.

        The settings may differ since: `PREDICT_REPLICAS=2 make run` sets a variable for that command alone.
        """
        values = dict(self.values)
        with contextlib.suppress(OSError, ValueError):
            values |= json.loads(self._started_with.read_text(encoding="utf-8"))
        return Supervisor(self.home, values, self._listed)

    def start(
        self, *, launcher: Sequence[str] = (), inherited: EnvironmentValues | None = None
    ) -> subprocess.Popen[bytes]:
        """Start supervisord in a session of its own, so that Ctrl-C reaches only its parent, which stops it in order.

        `launcher` is prepended to supervisord's command; `inherited` replaces this process's environment.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        self.socket.parent.mkdir(mode=0o700, exist_ok=True)
        if self.socket.parent.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.socket.parent} belongs to another user, who could control what runs here")
        self.socket.unlink(missing_ok=True)
        configuration = self.folder / "supervisord.conf"
        configuration.write_text(self.configuration(), encoding="utf-8")
        started_with = {name: self.values.get(name, "") for name in address_settings(self._listed)}
        self._started_with.write_text(json.dumps(started_with), encoding="utf-8")
        command = [*launcher, sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "--silent"]
        with (self.folder / "supervisord.stderr.log").open("wb") as errors:
            return subprocess.Popen(
                [*command, "--configuration", str(configuration)],
                cwd=self.home,
                env={**(os.environ if inherited is None else inherited), **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def environment(self) -> dict[str, str]:
        """Return the variables that every process gets in addition to this environment and `.env`."""
        derived = service_addresses(self.values, self._listed)
        for name, value in {"LOGS_PATH": str(self.logs), "LOG_TO_STDOUT": "false"}.items():
            if not self.values.get(name):
                derived[name] = value
        return derived | {MARK: str(self.folder)}

    def configuration(self) -> str:
        """Return supervisord's configuration; a single group, since groups are stopped one after the other."""
        names = ",".join(process.name for process in self.processes)
        return "\n".join(
            [
                "; Generated from rayonnage_shared/core/processes.py at each start: changes here are lost.",
                *_section("unix_http_server", file=self.socket, chmod="0700"),
                *_section(
                    "supervisord",
                    logfile=self._from_home(self.folder / "supervisord.log"),
                    logfile_maxbytes="1MB",
                    logfile_backups=1,
                    pidfile=self._from_home(self.folder / "supervisord.pid"),
                    umask=f"{_umask():03o}",
                    **({"user": "root"} if os.geteuid() == 0 else {}),
                ),
                *_section(
                    "rpcinterface:supervisor",
                    **{"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
                ),
                *_section("group:rayonnage", programs=names),
                *(line for process in self.processes for line in self._program(process)),
                "",
            ]
        )

    def _program(self, process: Process) -> list[str]:
        environment = ",".join(f'{name}="{value}"' for name, value in process.environment.items())
        return _section(
            f"program:{process.name}",
            command=f'"{sys.executable}" -m {process.module}',
            autorestart="true",
            startsecs=_START_S,
            startretries=1_000_000,
            stopwaitsecs=STOP_WAIT_S,
            killasgroup="true",
            redirect_stderr="true",
            stdout_logfile=self._from_home(self.stderr_log(process.name)),
            stdout_logfile_maxbytes="5MB",
            stdout_logfile_backups=1,
            **({"environment": environment} if environment else {}),
        )

    def _from_home(self, path: Path) -> str:
        """Return a path relative to `home`, where supervisord runs: it would expand a `%` in an absolute one."""
        return os.path.relpath(path, self.home)

    def stderr_log(self, name: str) -> Path:
        """Return the file for what a process writes to stdout and stderr instead of its log."""
        return self.logs / f"{name}.stderr.log"

    def pid(self) -> int | None:
        """Return supervisord's process id, or None if supervisord does not answer."""
        with contextlib.suppress(*_NO_ANSWER):
            return int(self._call("getPID"))
        return None

    def states(self) -> dict[str, ProcessState]:
        """Return each process's state by name; empty if supervisord does not answer."""
        rows: list[dict[str, Any]] = []
        with contextlib.suppress(*_NO_ANSWER):
            rows = self._call("getAllProcessInfo")
        found = {}
        for row in rows:
            up = bool(row["pid"])
            found[row["name"]] = ProcessState(
                name=row["name"],
                state="running" if up else row["statename"].lower(),
                pid=row["pid"] or None,
                uptime_s=float(row["now"] - row["start"]) if up else 0.0,
            )
        return found

    def start_process(self, name: str) -> None:
        """Start a stopped process."""
        self._call("startProcess", f"rayonnage:{name}", False)

    def stop_process(self, name: str) -> None:
        """Stop a process, wait until it has ended, and do not restart it."""
        self._call("stopProcess", f"rayonnage:{name}")

    def unready(self, need_only_live: Collection[str] = ()) -> dict[str, str]:
        """Return by name why each process is not ready; those of the services in `need_only_live` need only be live."""
        states = self.states()
        found = {}
        for process in self.processes:
            state = states.get(process.name)
            if state is None or not state.pid:
                found[process.name] = f"not running ({state.state if state else 'no supervisor'})"
                continue
            url = process.probe_url(self.values, "live" if process.service in need_only_live else "ready")
            if url and (trouble := probe_health(url)) is not None:
                found[process.name] = trouble
        return found

    def wait_until_ready(
        self, within_s: float, need_only_live: Collection[str] = (), *, hopeless: Callable[[], bool] = lambda: False
    ) -> dict[str, str]:
        """Wait until all processes are ready, for `within_s` or until `hopeless()`; return `unready` at that point."""
        deadline = time.monotonic() + within_s
        while (missing := self.unready(need_only_live)) and time.monotonic() < deadline and not hopeless():
            time.sleep(0.1)
        return missing

    def stop(self) -> bool:
        """End all processes of this run, first with SIGTERM and then SIGKILL; return whether there were any.

        Processes left behind by a killed supervisord are included. Takes 15 s at most.
        """
        of_this_run = set(host.marked(MARK, str(self.folder)))
        # supervisord first: it stops its children together and does not restart them.
        supervisors = {pid for pid in of_this_run if "supervisor.supervisord" in host.command_line(pid)}
        if (answering := self.pid()) is not None:
            supervisors.add(answering)
        host.end(supervisors, within_s=STOP_WAIT_S + 1)
        host.end(host.marked(MARK, str(self.folder)), within_s=1 if supervisors else STOP_WAIT_S)
        (self.folder / "supervisord.pid").unlink(missing_ok=True)
        self._started_with.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        if self.socket.parent != self.folder:
            with contextlib.suppress(OSError):
                self.socket.parent.rmdir()
        return bool(of_this_run or supervisors)

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        with contextlib.closing(transport):
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)


def socket_path(folder: Path) -> Path:
    """Return the path of supervisord's socket: in `folder`, or in the temporary folder if that path is too long."""
    path = folder / "supervisor.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"rayonnage-{os.getuid()}-{digest}" / "supervisor.sock"


def _section(title: str, /, **options: object) -> list[str]:
    # supervisord expands %(name)s in every value
    return ["", f"[{title}]", *(f"{name}={str(value).replace('%', '%%')}" for name, value in options.items())]


def _umask() -> int:
    present = os.umask(0o077)
    os.umask(present)
    return present
