"""`rayonnage push | pull`: push and pull bundles and dataset versions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rayonnage_shared.core.optional_parts import DVC
from rayonnage_shared.sync.settings import SyncSettings


def register(app: typer.Typer) -> None:
    """Add the commands of the DVC remote."""
    for command in (push, pull):
        app.command()(command)


def push(
    check: Annotated[bool, typer.Option(help="Also verify what was pushed before.")] = False,
) -> None:
    """Push dataset versions, photos and bundles to the DVC remote, and write the pointers to commit."""
    from rayonnage_shared.sync.dvc.connection import remote_address
    from rayonnage_shared.sync.dvc.target import DvcTarget
    from rayonnage_shared.sync.runner import sync

    DVC.require()
    settings = SyncSettings()
    address = remote_address(settings)
    if not address:
        print("DVC_REMOTE_URL is empty, so there is nowhere to push to.", file=sys.stderr)
        raise typer.Exit(1)
    target = DvcTarget(settings)
    if check:
        target.forget()
    (result,) = sync(settings, print, [target])
    if result.behind:
        print(f"The push is not complete: {result.detail}", file=sys.stderr)
        raise typer.Exit(1)
    if result.status == "nothing to do":
        print(f"Everything is already on {address}.")
    else:
        print(f"Commit the pointers: git add {settings.models_path} {settings.data_path} && git commit")


def pull(
    models: Annotated[bool, typer.Option("--models", help="Bundles only.")] = False,
    dataset: Annotated[bool, typer.Option("--dataset", help="Datasets and photos only.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All versions, not only the champion and the current dataset.")
    ] = False,
    pointers: Annotated[
        Path | None,
        typer.Option(help="Checkout whose pointers are used if the volumes are empty.", exists=True, file_okay=False),
    ] = None,
    allow_empty: Annotated[
        bool, typer.Option(help="Do not fail if there is nothing to pull, as at a first start.")
    ] = False,
) -> None:
    """Pull the champion and the current dataset named by the pointers from the DVC remote."""
    from rayonnage_shared.sync.dvc.pull import NothingToPull
    from rayonnage_shared.sync.dvc.pull import pull as run

    both = models == dataset
    try:
        run(
            SyncSettings(),
            print,
            bundles=both or models,
            datasets=both or dataset,
            everything=everything,
            checkout=pointers,
        )
    except NothingToPull as error:
        if not allow_empty:
            raise
        print(f"{error.title}: {error.detail}")
