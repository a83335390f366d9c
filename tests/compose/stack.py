"""The containers for a test: a copy of the checkout, `docker compose up` in it unmodified, on free ports.

What differs from a user's start stands in `.env` alone: ports, networks, the rate limit. Services whose image cannot be
had on this machine are left out by name, and the summary of the test run says which.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from tests.e2e.deployment import Deployment
from tests.e2e.local_run import bootstrap
from tests.ports import free_ports
from tests.waiting import eventually

CHECKOUT = Path(__file__).parents[2]
PROJECT = "rayonnage-test"
PORTS = (
    *("HTTP_PORT", "HTTPS_PORT", "MLFLOW_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT"),
    "AIRFLOW_PORT",
)
# Apart from the defaults, so that a stack of the developer's own may run beside the test's.
NETWORKS = {
    "EDGE_SUBNET": "172.31.243.0/24",
    "GATEWAY_ADDRESS": "172.31.243.250",
    "SERVICES_SUBNET": "172.31.244.0/24",
}
ONCE = ("migrate", "bucket", "models-pull")
BUILD_S, START_S, PULL_S = 1800, 420, 300


class EngineMissing(Exception):
    """No Docker engine with Compose answers."""


class CommandFailed(AssertionError):
    """A command of the test ended with another status than 0."""


def run(command: Sequence[str], *, cwd: Path, within_s: float, given: bytes | None = None) -> str:
    """Run a command to its end and return what it wrote to its standard output."""
    done = subprocess.run(command, cwd=cwd, input=given, capture_output=True, timeout=within_s, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}:\n{said[-6000:]}")
    return done.stdout.decode(errors="replace")


@dataclass(frozen=True)
class Container:
    """One container as the engine describes it."""

    id: str
    service: str
    state: str
    healthy: bool
    pid: int
    restarts: int
    exit_code: int


@dataclass
class Stack(Deployment):
    """A compose project in a folder of its own."""

    folder: Path
    left_out: list[str] = field(default_factory=list)

    @property
    def values(self) -> dict[str, str]:
        """What `.env` says."""
        return {name: value or "" for name, value in dotenv_values(self.folder / ".env").items()}

    @property
    def base_url(self) -> str:
        return f"https://localhost:{self.values['HTTPS_PORT']}"

    @property
    def admin(self) -> tuple[str, str]:
        return self.values["ADMIN_USERNAME"], self.values["ADMIN_PASSWORD"]

    @property
    def verify(self) -> ssl.SSLContext | bool:
        return ssl.create_default_context(cafile=str(self.folder / ".certs" / "ca.pem"))

    def promotions(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM promotions ORDER BY move_id")

    def rows(self, query: str, database: str = "rayonnage") -> list[dict[str, Any]]:
        """Return what a query finds in PostgreSQL."""
        wrapped = f"SELECT coalesce(json_agg(found), '[]') FROM ({query}) AS found"
        text = self.compose("exec", "-T", "postgres", "psql", "-qtAX", "-U", "rayonnage", "-d", database, "-c", wrapped)
        found: list[dict[str, Any]] = json.loads(text)
        return found

    def compose(self, *arguments: str, within_s: float = 120) -> str:
        """Run `docker compose` in the folder."""
        return run(["docker", "compose", *arguments], cwd=self.folder, within_s=within_s)

    def docker(self, *arguments: str, within_s: float = 120) -> str:
        """Run `docker`."""
        return run(["docker", *arguments], cwd=self.folder, within_s=within_s)

    def make(self, *words: str, within_s: float = 120) -> str:
        """Run `make` in the folder, with the commands of this environment."""
        stub = bootstrap(self.folder)
        return run(["make", "--no-print-directory", f"BOOTSTRAP={stub}", *words], cwd=self.folder, within_s=within_s)

    def services(self) -> dict[str, Any]:
        """Return the services of the compose file, as compose understands it, that `up` starts."""
        document = json.loads(self.compose("config", "--format", "json"))
        found: dict[str, Any] = document["services"]
        return found

    def own_images(self) -> list[str]:
        """Return the names of the images that are built here."""
        return sorted({one["image"] for one in self.services().values() if one["image"].startswith("rayonnage/")})

    def find_images(self) -> None:
        """Note which services are left out since their public image is not here and cannot be pulled."""
        for name, service in self.services().items():
            image = service["image"]
            if image.startswith("rayonnage/"):
                continue
            try:
                self.docker("image", "inspect", "--format", "{{.Id}}", image)
            except CommandFailed:
                try:
                    self.docker("pull", "--quiet", image, within_s=PULL_S)
                except (CommandFailed, subprocess.TimeoutExpired):
                    self.left_out.append(name)

    def build(self) -> None:
        """Build all images."""
        self.compose("build", within_s=BUILD_S)

    def up(self, *options: str, need_not_be_ready: Collection[str] = ()) -> None:
        """Start everything that can be, and wait until it is ready but for those named."""
        names = [name for name in self.services() if name not in self.left_out]
        try:
            self.compose("up", "--detach", "--pull", "never", *options, *names, within_s=START_S)
        except CommandFailed as error:
            raise CommandFailed(f"{error}\n{self.compose('ps', '--all')}\n{self.logs()}") from error
        self.wait_until_whole(START_S, need_not_be_ready)

    def down(self, *options: str) -> None:
        """Remove the containers; with `--volumes` what they held too."""
        self.compose("--profile", "airflow", "down", "--timeout", "10", *options, within_s=180)

    def logs(self, *names: str, lines: int = 40) -> str:
        """Return the last lines of the containers' logs."""
        return self.compose("logs", "--no-color", "--tail", str(lines), *names)

    def containers(self, service: str | None = None) -> list[Container]:
        """Return the containers, running or not, of a service or of all."""
        label = f"com.docker.compose.service={service}" if service else "com.docker.compose.service"
        ids = self.docker(
            *("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label=com.docker.compose.project={PROJECT}"),
            *("--filter", f"label={label}", "--filter", "label=com.docker.compose.oneoff=False"),
        ).split()
        return [_container(one) for one in json.loads(self.docker("inspect", *ids))] if ids else []

    def container(self, service: str) -> Container:
        """Return the one container of a service."""
        (found,) = self.containers(service)
        return found

    def whole(self, need_not_be_ready: Collection[str] = ()) -> bool:
        """Return whether every container that should run does and is ready, but for those named."""
        lasting = [one for one in self.containers() if one.service not in ONCE]
        return all(one.state == "running" and (one.healthy or one.service in need_not_be_ready) for one in lasting)

    def wait_until_whole(self, within_s: float, need_not_be_ready: Collection[str] = ()) -> None:
        """Return when everything runs and is ready; else fail with what compose says."""
        if not eventually(lambda: self.whole(need_not_be_ready), within_s, every_s=0.5):
            raise AssertionError(f"not whole after {within_s:g} s:\n{self.compose('ps', '--all')}\n{self.logs()}")

    def lasting_services(self) -> list[str]:
        """Return the services of which a container keeps running."""
        return [one.service for one in self.containers() if one.state == "running"]

    def kill(self, container: Container) -> None:
        """End a container's first process with SIGKILL as the kernel would, past the engine."""
        try:
            os.kill(container.pid, signal.SIGKILL)
        except PermissionError:
            run(["sudo", "-n", "kill", "-KILL", str(container.pid)], cwd=self.folder, within_s=10)

    def rewrite_env(self, **values: str) -> None:
        """Set values in `.env`; the next `up` gives them to the containers."""
        path = self.folder / ".env"
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.partition("=")[0] not in values]
        path.write_text("\n".join([*lines, *(f"{name}={value}" for name, value in values.items())]) + "\n")


def _container(document: dict[str, Any]) -> Container:
    state = document["State"]
    return Container(
        id=document["Id"],
        service=document["Config"]["Labels"]["com.docker.compose.service"],
        state=state["Status"],
        healthy=state.get("Health", {}).get("Status", "healthy") == "healthy",
        pid=state["Pid"],
        restarts=document["RestartCount"],
        exit_code=state["ExitCode"],
    )


def new_stack(folder: Path) -> Stack:
    """Return a stack in the empty `folder`, which becomes a copy of the checkout with secrets of its own.

    Nothing is built or started yet. Raises EngineMissing.
    """
    copy_checkout(folder)
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    chosen = {"COMPOSE_PROJECT_NAME": PROJECT, **ports, **NETWORKS, "PREDICT_RATE_LIMIT": "100000/minute"}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in chosen.items()), encoding="utf-8")
    for command in ("env", "certs"):
        run([sys.executable, "-m", "rayonnage_shared.cli.main", command], cwd=folder, within_s=60)
    stack = Stack(folder)
    try:
        run(["docker", "info"], cwd=folder, within_s=30)
        stack.compose("version")
    except (CommandFailed, FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise EngineMissing(f"Tests marked `compose` need a Docker engine with Compose: {error}") from error
    return stack


def copy_checkout(folder: Path) -> None:
    """Copy what git would: tracked files, and new ones that are not ignored."""
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=CHECKOUT, within_s=30)
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, folder / name)
