"""`make run`: run the whole platform on this machine, from the folder with `.env`, until it is stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from types import FrameType
from urllib.parse import urlencode, urlsplit

from pydantic import Field

from rayonnage_shared.core import host
from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.core.processes import MAX_REPLICAS, EnvironmentValues, process, with_replicas
from rayonnage_shared.core.settings import DatabaseSettings
from rayonnage_shared.ops.env_file import ADMIN_PASSWORD, complete_env_file, effective, first_admin
from rayonnage_shared.ops.older_settings import without_effect
from rayonnage_shared.ops.run_lock import AlreadyRunning, holder, only_run
from rayonnage_shared.ops.supervision import MARK, Supervisor
from rayonnage_shared.pipelines.settings import PipelineSettings
from rayonnage_shared.sync.dvc.settings import VersioningSettings

READY_WITHIN_S = 90  # a cold disk and two busy cores; usually 3 s
_LEFT_ALONE_S = 5  # time for an earlier start that is still in progress
_TAIL_LINES = 15
_STARTS_THAT_ARE_TOO_MANY = 3

Say = Callable[[str], None]


class LocalSettings(PipelineSettings, DatabaseSettings, VersioningSettings):
    """Settings of `make run`, beside those of the services."""

    demo: bool = Field(
        True, description="Ingest the sample catalogue and train a first model if there is none; 0 starts empty."
    )
    predict_replicas: int = Field(
        1,
        ge=1,
        le=MAX_REPLICAS,
        description="Replicas of predict that `make run` starts, each with its own port, model (about 300 MB) and "
        "PREDICT_THREADS. Replica n listens on PREDICT_PORT + 10 × (n - 1). In containers: --scale predict=2.",
    )


class StopAsked(BaseException):
    """Ctrl-C or SIGTERM. Not an Exception, so that no handler swallows it."""


class CannotRun(Exception):
    """The platform cannot start or has stopped; the message says why and what to do."""


def run(home: Path, say: Say = print) -> None:
    """Start everything, print the addresses, and run until Ctrl-C, SIGTERM or `stop`. Raises CannotRun.

    Returns at once, with a message, if the platform already runs from this folder.
    """
    folder = home.resolve() / ".run"
    try:
        with only_run(folder), _signals_raise():
            _run(home, say)
    except AlreadyRunning as err:
        say(
            f"Rayonnage is already running or starting from this folder (process {err.pid}).\n"
            "`make status` shows it, `make stop` stops it."
        )


def _run(home: Path, say: Say) -> None:
    earlier = Supervisor(home, effective(home)).as_started()
    if earlier.pid() is not None and not earlier.wait_until_ready(_LEFT_ALONE_S, _need_only_live(home)):
        say("Rayonnage already runs from this folder, left by an earlier start; `make stop` stops it.")
        say(addresses(earlier.values))
        return
    if earlier.stop():
        say("Stopped processes left by an earlier run.")
    added = complete_env_file(home)
    values = effective(home)
    if ADMIN_PASSWORD in added:
        say(first_admin(values))
    if older := without_effect(values):
        say(older)
    refuse_used_ports(values)
    supervisor = Supervisor(home, values)
    started = time.monotonic()
    try:
        with compiling(supervisor):
            _prepare(home, supervisor)
        say("Starting the services …")
        daemon = supervisor.start()
        _wait(supervisor, daemon, _need_only_live(home))
        say(_welcome(home, values, added, time.monotonic() - started))
        status = daemon.wait()
    except StopAsked:
        say("\nStopping …")
    else:
        if status != 0:
            raise CannotRun(
                f"The supervisor exited unexpectedly (status {status}); the other processes were stopped. "
                "Run `make run` again; .run/supervisord.log may give the reason."
            )
    finally:
        _ignore_signals()
        supervisor.stop()
    say("Stopped.")


@contextmanager
def _signals_raise() -> Iterator[None]:
    def ask(_number: int, _frame: FrameType | None) -> None:
        raise StopAsked

    before = {which: signal.signal(which, ask) for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except StopAsked:
        pass  # before anything was started
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _ignore_signals() -> None:
    """Ignore further signals while stopping, which is bounded; a second Ctrl-C would leave processes behind."""
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, signal.SIG_IGN)


def refuse_used_ports(values: EnvironmentValues) -> None:
    """Raise CannotRun with each port in use, its holder, and the setting that changes it."""
    troubles = []
    seen: dict[int, str] = {}
    try:
        processes = with_replicas(values)
    except InvalidSetting as err:
        raise CannotRun(err.detail) from None
    for one in processes:
        for port in one.ports():
            try:
                number = port.number(values)
            except InvalidSetting as err:
                troubles.append(err.detail)
                continue
            if number in seen:
                troubles.append(f"{port} and {seen[number]} are both {number}; each needs its own")
            elif (reason := host.why_not_free(port.host(values), number)) is not None:
                other = number - port.offset + (10_000 if number < 50_000 else -10_000)
                troubles.append(
                    f"Port {number} ({one.name}) {reason}; free it or set {port.setting}, "
                    f"for example `{port.setting}={other} make run`"
                )
            seen.setdefault(number, str(port))
    if troubles:
        raise CannotRun("\n".join(troubles))


@contextmanager
def compiling(supervisor: Supervisor) -> Iterator[None]:
    """Import the services once beside the preparation, if that has never been done, so that Python compiles them.

    Otherwise six processes compile the same libraries at once: 14 s of CPU instead of 5 + 3.
    """
    server = find_spec("uvicorn")
    done = server is None or server.origin is None or Path(cache_from_source(server.origin)).exists()
    if done or sys.dont_write_bytecode:
        yield
        return
    modules = sorted({one.module if "." in one.module else f"{one.package}.app" for one in supervisor.processes})
    environment = os.environ | {MARK: str(supervisor.folder)}
    command = [sys.executable, "-c", f"import {', '.join(modules)}"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            yield
        except BaseException:
            process.kill()
            raise


def _prepare(home: Path, supervisor: Supervisor) -> None:
    """Migrate, ingest and train in a child process, whose memory is freed afterwards."""
    work = subprocess.Popen(
        [sys.executable, "-m", "rayonnage_shared.cli.main", "prepare"],
        cwd=home,
        env=os.environ | {MARK: str(supervisor.folder)},
        start_new_session=True,
    )
    try:
        status = work.wait()
    except StopAsked:
        host.end([work.pid], within_s=3)
        work.wait()
        raise
    if status != 0:
        raise CannotRun("The preparation failed, see above; nothing was started.")


def _has_champion(home: Path) -> bool:
    return (home / LocalSettings().models_path / "champion.json").is_file()


def _need_only_live(home: Path) -> frozenset[str]:
    """Return the services that need not be ready: predict without a model is only live."""
    return frozenset() if _has_champion(home) else frozenset({"predict"})


def _wait(supervisor: Supervisor, daemon: subprocess.Popen[bytes], need_only_live: frozenset[str]) -> None:
    started = time.monotonic()
    falling = _Falling(supervisor)
    missing = supervisor.wait_until_ready(
        READY_WITHIN_S, need_only_live, hopeless=lambda: daemon.poll() is not None or bool(falling.names())
    )
    if not missing:
        return
    if daemon.poll() is not None:
        raise CannotRun(f"The supervisor did not start:\n{_tail(supervisor.folder / 'supervisord.stderr.log')}")
    parts = []
    fallen = falling.names()
    for name in fallen or missing:
        parts.append(f"{name}: {'keeps crashing' if fallen else missing[name]}")
        for path in (supervisor.stderr_log(name), supervisor.logs / f"{name}.log"):
            if tail := _tail(path):
                parts.append(f"  last lines of {path}:\n{tail}")
    raise CannotRun(f"Not ready after {time.monotonic() - started:.0f} s:\n" + "\n".join(parts))


class _Falling:
    """Detects processes that keep crashing, as with a wrong setting."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._seen: dict[str, set[int]] = {}

    def names(self) -> list[str]:
        """Return the processes that were started three times."""
        for name, state in self._supervisor.states().items():
            if state.pid:
                self._seen.setdefault(name, set()).add(state.pid)
        return [name for name, pids in self._seen.items() if len(pids) >= _STARTS_THAT_ARE_TOO_MANY]


def _tail(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines)
    return ""


def addresses(values: EnvironmentValues) -> str:
    """Return the platform's addresses, one per line."""
    lines = [f"  {one.name:<15}{one.port.address(values)}" for one in with_replicas(values) if one.port]
    return "\n".join([*lines, f"  documentation  {_gateway(values)}/docs"])


def _gateway(values: EnvironmentValues) -> str:
    port = process("gateway").port
    assert port is not None
    return port.address(values)


def example_call(gateway: str) -> str:
    """Return one command that logs in as the first admin and requests a prediction, for the project folder."""
    return f"""\
curl -s {gateway}/predict \\
  -H "Authorization: Bearer $(curl -s {gateway}/token \\
    --data-urlencode "username=$(sed -n 's/^ADMIN_USERNAME=//p' .env)" \\
    --data-urlencode "password=$(sed -n 's/^ADMIN_PASSWORD=//p' .env)" \\
    | sed 's/.*"access_token": *"\\([^"]*\\)".*/\\1/')" \\
  -F designation="Robot nettoyeur de piscine hors sol" -F image=@data/sample/exemple.jpg"""


def _welcome(home: Path, values: EnvironmentValues, added: dict[str, str], took_s: float) -> str:
    parts = ["", f"Rayonnage is ready, after {took_s:.0f} s.", addresses(values), ""]
    if ADMIN_PASSWORD in added:
        parts += _unless_login_works(values)
    if _has_champion(home):
        parts += [
            "For a prediction, run this in another terminal, in this folder:",
            "",
            example_call(_gateway(values)),
            "",
        ]
    else:
        parts += ["There is no model yet: POST /ingest and POST /train, or `make ingest` and `make train`.", ""]
    return "\n".join(
        [
            *parts,
            "Ctrl-C stops everything; `make status`, `make logs` and `make stop` work from another terminal.",
            f"Open {_gateway(values)}/docs and log in as {values['ADMIN_USERNAME']}; "
            "the password is ADMIN_PASSWORD in the file .env.",
        ]
    )


def _unless_login_works(values: EnvironmentValues) -> list[str]:
    """Warn if a new `.env` does not match an existing database."""
    username = values["ADMIN_USERNAME"]
    if login_works(_gateway(values), username, values[ADMIN_PASSWORD]):
        return []
    return [
        f"The database has another password for {username} than .env. Put the old one into .env, or run",
        f"  .venv/bin/rayonnage users reset-password {username}",
        "",
    ]


def login_works(gateway: str, username: str, password: str) -> bool:
    """Return whether the platform issues a token for these credentials."""
    parts = urlsplit(gateway)
    body = urlencode({"username": username, "password": password})
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", "/token", body, {"Content-Type": "application/x-www-form-urlencoded"})
        return connection.getresponse().status == 200


def stop(home: Path) -> bool:
    """Stop the platform that runs from this folder; return whether there was one."""
    folder = home.resolve() / ".run"
    runner = holder(folder)
    if runner is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(runner, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while holder(folder) is not None and time.monotonic() < deadline:
            time.sleep(0.1)
    left = Supervisor(home, effective(home)).stop()
    return left or runner is not None
