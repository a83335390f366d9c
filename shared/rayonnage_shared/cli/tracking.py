"""`rayonnage follow | mlflow`: MLflow and DVC brought up to date by hand, and MLflow's pages on this machine."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import typer

from rayonnage_shared.sync.mlflow.settings import MlflowServerSettings
from rayonnage_shared.sync.settings import SyncSettings


class ServerSettings(SyncSettings, MlflowServerSettings):
    """What `rayonnage mlflow` reads from the environment."""


def register(app: typer.Typer) -> None:
    """Add the commands about followers to the command line."""
    for command in (follow, mlflow):
        app.command()(command)


def follow(
    names: Annotated[list[str] | None, typer.Argument(help="Followers, such as mlflow; default: all.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Look everything up in MLflow, done before or not.")] = False,
) -> None:
    """Bring MLflow and DVC up to date with the volumes now. Exits 1 when something is left to do."""
    from rayonnage_shared.sync.mlflow.target import MlflowTarget
    from rayonnage_shared.sync.runner import follow as run
    from rayonnage_shared.sync.runner import followers

    settings = SyncSettings()
    known = {one.name: one for one in followers(settings)}
    unknown = set(names or ()) - known.keys()
    if unknown:
        print(f"There is no follower {', '.join(sorted(unknown))}; there are: {', '.join(known)}.", file=sys.stderr)
        raise typer.Exit(2)
    chosen = [one for one in known.values() if not names or one.name in names]
    for one in chosen:
        if again and isinstance(one, MlflowTarget):
            one.forget()
    results = run(settings, print, chosen)
    for result in results:
        print(f"{result.follower}: {result.status}. {result.detail}".rstrip())
    raise typer.Exit(1 if any(result.behind for result in results) else 0)


def catch_up() -> None:
    """Let the followers catch up with what a command has changed; one that is away costs a warning and no more."""
    from rayonnage_shared.sync.runner import follow as run

    for result in run(SyncSettings(), lambda sentence: print(sentence, file=sys.stderr)):
        if result.status in ("away", "failed"):
            detail = f"{result.detail} It will catch up: the platform tries again, and so does `rayonnage follow`."
            print(f"{result.follower} is not up to date: {detail}", file=sys.stderr)


def mlflow() -> None:
    """Serve MLflow's pages over the store and the artifacts of this folder until Ctrl-C; becomes MLflow's server."""
    from rayonnage_shared.sync.mlflow.server import ServerMissing, server_command, server_environment

    settings = ServerSettings()
    try:
        command = server_command(settings)
    except ServerMissing as err:
        print(err, file=sys.stderr)
        raise typer.Exit(1) from err
    _make_store(settings)
    print(f"MLflow is at http://{settings.mlflow_host}:{settings.mlflow_port} in a moment; Ctrl-C ends it.", flush=True)
    os.execve(command[0], command, {**os.environ, **server_environment()})  # noqa: S606 - signals reach the server


def _make_store(settings: ServerSettings) -> None:
    """Make the tables where there are none; the server and a follower must not both begin to."""
    from rayonnage_shared.sync.mlflow.address import sqlite_path
    from rayonnage_shared.sync.mlflow.client import connect
    from rayonnage_shared.sync.mlflow.server import store_address
    from rayonnage_shared.sync.mlflow.target import NAME
    from rayonnage_shared.sync.runner import Busy, only_one

    address = store_address(settings)
    file = sqlite_path(address)
    while file is not None and not file.exists():
        try:
            with only_one(settings, NAME):
                print("Making MLflow's tables …", flush=True)
                connect(settings.model_copy(update={"mlflow_tracking_uri": address})).ready()
        except Busy:
            time.sleep(0.5)
