"""A throw-away PostgreSQL cluster for tests, from the distribution's own package."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SERVER_USER = "postgres"  # initdb refuses to run as root; Debian's package brings this user


class PostgresqlMissing(Exception):
    """The binaries are not installed."""


@contextlib.contextmanager
def postgresql_cluster() -> Iterator[str]:
    """Yield the SQLAlchemy address of an empty cluster's `postgres` database; the cluster ends with the block."""
    binaries = find_binaries()
    folder = Path(tempfile.mkdtemp(prefix="rayonnage-postgresql-"))
    port = _free_port()
    try:
        if os.geteuid() == 0:
            account = pwd.getpwnam(SERVER_USER)
            os.chown(folder, account.pw_uid, account.pw_gid)
        _as_server_user(
            [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", SERVER_USER, "--auth=trust", "--no-sync"],
            folder,
        )
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
        control = [str(binaries / "pg_ctl"), "-D", str(folder / "data"), "-w", "-t", "60"]
        _as_server_user([*control, "-l", str(folder / "log"), "-o", options, "start"], folder)
        try:
            yield f"postgresql+psycopg://{SERVER_USER}@127.0.0.1:{port}/postgres"
        finally:
            _as_server_user([*control, "-m", "immediate", "stop"], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_binaries() -> Path:
    """Return the folder of `initdb` and `pg_ctl`. Raises PostgresqlMissing."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not versions:
        raise PostgresqlMissing("Tests marked `system` need PostgreSQL: apt-get install postgresql")
    return versions[-1].parent


def _as_server_user(command: list[str], folder: Path) -> None:
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": SERVER_USER, "group": pwd.getpwnam(SERVER_USER).pw_gid, "extra_groups": []}
    # A file and no pipe: the server inherits it and would keep a pipe open for ever.
    with (folder / "output").open("w+") as output:
        done = subprocess.run(command, cwd=folder, stdout=output, stderr=output, timeout=120, check=False, **user)
        if done.returncode:
            output.seek(0)
            raise RuntimeError(f"{command[0]} failed: {output.read()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
