"""`rayonnage sync | mlflow`: bring MLflow and DVC up to date, and serve MLflow's pages on this machine."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import typer

from rayonnage_shared.core.files import FileLocked
from rayonnage_shared.sync.mlflow.settings import MlflowServerSettings
from rayonnage_shared.sync.settings import SyncSettings


class ServerSettings(SyncSettings, MlflowServerSettings):
    """What `rayonnage mlflow` reads from the environment."""


def register(app: typer.Typer) -> None:
    """Add the sync commands."""
    for command in (sync, mlflow):
        app.command()(command)


def sync(
    names: Annotated[list[str] | None, typer.Argument(help="Targets to sync, such as mlflow. Default: all.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Ignore the markers and compare everything with MLflow again.")
    ] = False,
) -> None:
    """Bring MLflow and DVC up to date with the volumes. Exits with 1 if work is left to do."""
    from rayonnage_shared.sync.mlflow.target import MlflowTarget
    from rayonnage_shared.sync.runner import missing_parts, sync_targets
    from rayonnage_shared.sync.runner import sync as run

    settings = SyncSettings()
    known = {one.name: one for one in sync_targets(settings)}
    unknown = set(names or ()) - known.keys()
    for part in missing_parts(settings):
        print(part.remedy, file=sys.stderr)
    if unknown:
        print(
            f"Unknown sync target {', '.join(sorted(unknown))}; known: {', '.join(known) or 'none'}.", file=sys.stderr
        )
        raise typer.Exit(2)
    chosen = [one for one in known.values() if not names or one.name in names]
    for one in chosen:
        if again and isinstance(one, MlflowTarget):
            one.forget()
    results = run(settings, print, chosen)
    for result in results:
        print(f"{result.target}: {result.status}. {result.detail}".rstrip())
    raise typer.Exit(1 if any(result.behind for result in results) else 0)


def catch_up() -> None:
    """Sync after a command has changed something; a target that cannot be reached costs one warning."""
    from rayonnage_shared.sync.runner import sync as run

    for result in run(SyncSettings(), lambda sentence: print(sentence, file=sys.stderr)):
        if result.status in ("away", "failed"):
            detail = f"{result.detail} The platform retries; `rayonnage sync` does so now."
            print(f"{result.target} is not up to date: {detail}", file=sys.stderr)


def mlflow() -> None:
    """Serve the MLflow UI over this folder's store and artifacts until Ctrl-C."""
    from rayonnage_shared.sync.mlflow.server import ServerMissing, server_command, server_environment

    settings = ServerSettings()
    try:
        command = server_command(settings)
    except ServerMissing as err:
        print(err, file=sys.stderr)
        raise typer.Exit(1) from err
    _make_store(settings)
    catch_up()  # with what happened before MLflow was installed
    print(f"MLflow starts at http://{settings.mlflow_host}:{settings.mlflow_port}; Ctrl-C stops it.", flush=True)
    os.execve(command[0], command, {**os.environ, **server_environment()})  # noqa: S606 - signals reach the server


def _make_store(settings: ServerSettings) -> None:
    """Create the tables if they are missing; the server and a sync must not both create them."""
    from rayonnage_shared.sync.mlflow.address import sqlite_path
    from rayonnage_shared.sync.mlflow.client import connect
    from rayonnage_shared.sync.mlflow.server import store_address
    from rayonnage_shared.sync.mlflow.target import NAME
    from rayonnage_shared.sync.runner import lock_target

    address = store_address(settings)
    file = sqlite_path(address)
    while file is not None and not file.exists():
        try:
            with lock_target(settings, NAME):
                print("Creating MLflow's tables …", flush=True)
                connect(settings.model_copy(update={"mlflow_tracking_uri": address})).ready()
        except FileLocked:
            time.sleep(0.5)
