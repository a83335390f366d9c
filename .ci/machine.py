"""Debian packages, a Docker engine, and commands with a time limit."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from suites import ROOT

ENGINE_UP = "RAYONNAGE_ENGINE_UP"
"""The variable that names a shell script which starts a Docker engine.

Bash sources the script with an empty folder as its argument; afterwards `docker` works with the variables that the
script exported. Its folder must contain `down.sh FOLDER`, which stops the engine, and may contain `standin IMAGE…`,
which provides replacements for images that cannot be pulled (status 3: some have none).
"""

STOP_S = 60  # the time that a command has to clean up after SIGTERM
OF_AN_OUTER_MAKE = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
"""Variables with which `make suites ARGS=…` would pass its arguments to the make that runs a suite."""

POLICY = Path("/usr/sbin/policy-rc.d")
PYTEST_CLOSING_LINE = re.compile(r"^(?:=+ )?(\d+ (?:passed|failed|error|skipped|deselected).*? in [\d.]+s)")
COLOURS = re.compile(r"\x1b\[[\d;]*m")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status (None if it reached its time limit), and pytest's last line, if any."""

    status: int | None
    closing_line: str = ""


def run(command: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None) -> Ended:
    """Run a command, show its output, and stop it with all its children at its time limit."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**_without_outer_make(), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        closing_lines: list[str] = []
        reader = threading.Thread(target=_show, args=(process, closing_lines), daemon=True)
        reader.start()
        status: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired), stopped(process):
                status = process.wait(limit_s)
        finally:  # on an interrupt too: what the command printed last comes before anything else is printed
            reader.join(timeout=5)  # a stray child may hold the pipe open
        return Ended(status, "".join(closing_lines[-1:]))


def _without_outer_make() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in OF_AN_OUTER_MAKE}


def _show(process: subprocess.Popen[bytes], closing_lines: list[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        if found := PYTEST_CLOSING_LINE.match(COLOURS.sub("", line.decode(errors="replace"))):
            closing_lines.append(found.group(1))


@contextlib.contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop the process and its children when the block ends, if they still run."""
    try:
        yield
    finally:
        for sent, within_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, 5)):
            if process.poll() is not None:
                break
            os.killpg(process.pid, sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(within_s)


def missing_packages(commands: Mapping[str, str]) -> list[str]:
    """Return the packages whose command is not installed, from a table of packages and their commands."""
    return [package for package, command in commands.items() if not _is_installed(command)]


def _is_installed(command: str) -> bool:
    return shutil.which(command) is not None or any(Path("/usr/lib/postgresql").glob(f"*/bin/{command}"))


def install_packages(packages: Sequence[str], attempts: int = 3) -> int:
    """Install Debian packages without starting their services; return the exit status."""
    if shutil.which("apt-get") is None:
        print(f"apt-get is not available. Install these packages by hand: {' '.join(packages)}")
        return 1
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", *packages]
    with _no_service_starts(as_root), tempfile.TemporaryFile() as log:
        for attempt in range(1, attempts + 1):
            print(f"Installing {' '.join(packages)} …", flush=True)
            for command in (["apt-get", "update", "-qq"], ["env", "DEBIAN_FRONTEND=noninteractive", *install]):
                status = subprocess.call([*as_root, *command], stdout=log, stderr=log)
                if status != 0:
                    break
            else:
                return 0
            print(f"Attempt {attempt} failed with status {status}.", flush=True)
            time.sleep(attempt * 5)
        log.seek(0)
        print(b"".join(log.readlines()[-20:]).decode(errors="replace"))
    return status


@contextlib.contextmanager
def _no_service_starts(as_root: Sequence[str]) -> Iterator[None]:
    """Keep Debian from starting the services that it installs."""
    if POLICY.exists():
        yield
        return
    script = f"printf '#!/bin/sh\\nexit 101\\n' >{POLICY} && chmod 755 {POLICY}"
    subprocess.call([*as_root, "sh", "-c", script])
    try:
        yield
    finally:
        subprocess.call([*as_root, "rm", "-f", str(POLICY)])


class Engine:
    """A Docker engine with Compose: the machine's own, or one that is started for this run."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self.environment: dict[str, str] = {}
        self._script = os.environ.get(ENGINE_UP, "")
        self._folder: Path | None = None
        self._preparation: threading.Thread | None = None
        self._log = ""
        self._started = False

    @functools.cached_property
    def _is_the_machines(self) -> bool:
        return engine_answers({})

    @property
    def why_missing(self) -> str:
        """Return why there is no engine, or an empty string if one is running or can be started."""
        if self._is_the_machines:
            return ""
        if not self._script:
            return f"no Docker engine with Compose is running, and {ENGINE_UP} does not name a script that starts one"
        if os.geteuid() != 0:
            return f"no Docker engine with Compose is running, and only root can start one with {ENGINE_UP}"
        return ""

    def begin(self) -> None:
        """Start to prepare an engine in the background, unless one is running; most of that time is downloads."""
        if not self._is_the_machines and self._preparation is None:
            self._folder = Path(tempfile.mkdtemp(prefix="rayonnage-engine-"))
            self._preparation = threading.Thread(target=self._prepare, args=(self._folder,), daemon=True)
            self._preparation.start()

    def wait(self) -> bool:
        """Wait until the engine is prepared; return whether it responds, and print why not."""
        self.begin()
        if self._preparation is not None:
            self._preparation.join()
        ready = self._is_the_machines or self._started
        if not ready:
            print(f"The Docker engine of {self._script} could not be used:\n{self._log[-4000:]}")
        return ready

    def end(self) -> None:
        """Stop the engine and delete what it stored, if it was started here."""
        if self._preparation is not None:
            self._preparation.join()
            self._preparation = None
        if self._folder is not None:
            if (self._folder / "dockerd.pid").exists():
                subprocess.call([Path(self._script).with_name("down.sh"), self._folder])
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
            self._started = False
            self.environment = {}

    def _prepare(self, folder: Path) -> None:
        source = '. "$0" "$1" >&2 && env -0'
        started = _captured(["bash", "-c", source, self._script, str(folder)], {})
        self._log += started.stderr
        if started.returncode != 0:
            return
        variables = (entry.partition("=") for entry in started.stdout.split("\0"))
        self.environment = {name: value for name, _, value in variables if name and os.environ.get(name) != value}
        profiles = ["--profile", "airflow", "--profile", "monitor"]
        images = _captured(["docker", "compose", *profiles, "config", "--images"], self.environment)
        self._log += images.stderr
        stand_in = Path(self._script).with_name("standin")
        if stand_in.exists():
            wanted = ["python:3.13-slim", *sorted(set(images.stdout.split()))]
            given = _captured([str(stand_in), *wanted], self.environment)
            self._log += given.stdout + given.stderr
            if given.returncode not in {0, 3}:
                return
        self._started = engine_answers(self.environment)


def engine_answers(environment: Mapping[str, str]) -> bool:
    """Return whether a Docker engine responds and Compose is installed."""
    commands = (["docker", "info"], ["docker", "compose", "version"])
    return shutil.which("docker") is not None and all(_captured(one, environment).returncode == 0 for one in commands)


def _captured(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
