"""A folder in which `rayonnage up` runs, as `make run` does, and `make` without its bootstrap script."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from rayonnage_shared.core import host
from rayonnage_shared.core.processes import PROCESSES
from rayonnage_shared.ops.env_file import effective
from rayonnage_shared.ops.supervision import MARK, Supervisor
from tests.e2e.command_line import RAYONNAGE
from tests.e2e.platform import environment_without_settings
from tests.ports import free_ports, free_ports_of_replicas
from tests.waiting import PATIENCE_S, eventually

ALL_PORTS = [(one.name, port) for one in PROCESSES for port in one.ports()]


class Run:
    """One folder from which the platform is run, as a user has it after cloning."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ports = {
            port.setting: number for (_, port), number in zip(ALL_PORTS, free_ports(len(ALL_PORTS)), strict=True)
        }
        self.ports["PREDICT_PORT"] = free_ports_of_replicas(2)
        self.environment = environment_without_settings() | {name: str(port) for name, port in self.ports.items()}
        self.environment["DEMO"] = "0"
        self.processes: list[subprocess.Popen[str]] = []

    @property
    def mark(self) -> str:
        return str(self.home.resolve() / ".run")

    @property
    def output(self) -> str:
        return (self.home / "output").read_text()

    def supervisor(self) -> Supervisor:
        return Supervisor(self.home, effective(self.home, self.environment))

    def up(self) -> subprocess.Popen[str]:
        with (self.home / "output").open("w") as output:
            started = subprocess.Popen(
                [*RAYONNAGE, "up"], cwd=self.home, env=self.environment, stdout=output, stderr=output, text=True
            )
        self.processes.append(started)
        return started

    def up_and_ready(self) -> subprocess.Popen[str]:
        started = self.up()
        assert eventually(lambda: "is ready" in self.output or started.poll() is not None), self.output
        assert started.poll() is None, self.output
        return started

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RAYONNAGE, *arguments],
            check=False,
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def left(self) -> list[str]:
        return [host.command_line(pid) for pid in host.marked(MARK, self.mark)]

    def end(self) -> None:
        """Kill what was started, and stop the platform."""
        for started in self.processes:
            started.kill()
            started.wait()
        self.supervisor().stop()


def bootstrap(folder: Path) -> Path:
    """Write what stands for the bootstrap script: it runs a command of this environment and installs nothing."""
    script = folder / "bootstrap"
    binaries = shlex.quote(str(Path(sys.executable).parent))
    script.write_text(
        "#!/bin/sh\n"
        'case "$1" in --extra) shift 2 ;; --no-sync) shift ;; esac\n'
        f'command=$1; shift; exec {binaries}/"$command" "$@"\n'
    )
    script.chmod(0o755)
    return script
