"""`rayonnage env | certs | migrate | make-bucket`: what a deployment in containers needs before its services start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rayonnage_shared.core.settings import DatabaseSettings
from rayonnage_shared.sync.dvc.settings import VersioningSettings

HOME = Path()


def register(app: typer.Typer) -> None:
    """Add the commands about deployments to the command line."""
    for command in (env, certs, migrate, make_bucket):
        app.command()(command)


def env() -> None:
    """Complete .env, and write the secrets that containers read to .secrets; what is there stays.

    To change a secret, name it in .env (POSTGRES_PASSWORD=…) and run this again.
    """
    from rayonnage_shared.ops.env_file import ADMIN_PASSWORD, first_admin
    from rayonnage_shared.ops.secret_files import FOLDER, write_secrets

    written = write_secrets(HOME)
    if ADMIN_PASSWORD in written.settings:
        print(first_admin(written.settings))
    for verb, names in (("Made", written.made), ("Changed", written.changed)):
        if names:
            print(f"{verb} in {FOLDER}: {', '.join(names)}.")
    if not (written.made or written.changed):
        print(f"Nothing to do: .env and {FOLDER} are complete.")
    if written.changed:
        print("Containers that run keep what they started with: docker compose up --detach --force-recreate")
    if "postgres_password" in written.changed:
        print(
            "A PostgreSQL that has data keeps its password: give it the new one by ALTER ROLE rayonnage PASSWORD '…'."
        )


def certs(
    host: Annotated[list[str] | None, typer.Option(help="Another name or address of this host; repeatable.")] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Make new ones although those there are good.")] = False,
) -> None:
    """Make a certificate for nginx, and the authority to import where browsers should not warn, in .certs.

    What is there stays unless it has expired or lacks a name. Files of another authority, put there instead, stay.
    """
    from rayonnage_shared.ops.certificates import AUTHORITY, FOLDER, provide_certificate

    found = provide_certificate(HOME / FOLDER, host or (), renew=renew)
    print(f"{'Made' if found.new else 'There is'} a certificate in {FOLDER} for {', '.join(found.names)};")
    print(f"it is valid until {found.expires:%Y-%m-%d}.", end=" ")
    if found.foreign:
        print("It was not made here, so it stays as it is.")
    else:
        print(f"Who imports {FOLDER}/{AUTHORITY} gets no warning.")


def migrate() -> None:
    """Bring the database's tables up to date: once, before services of a new version start."""
    from sqlalchemy.exc import OperationalError

    from rayonnage_shared.cli.database import command_database

    try:
        with command_database(DatabaseSettings()):
            print("The tables are up to date.")
    except OperationalError as error:
        print(f"The database cannot be used: {error.orig}", file=sys.stderr)
        raise typer.Exit(1) from error


def make_bucket() -> None:
    """Make the bucket of the DVC remote on the S3 server at DVC_ENDPOINT_URL, unless it is there."""
    from rayonnage_shared.sync.dvc import bucket as dvc_bucket

    settings = VersioningSettings()
    name = dvc_bucket.bucket_name(settings)
    if name is None:
        print("The DVC remote is no bucket at a DVC_ENDPOINT_URL, so there is nothing to make.")
    elif dvc_bucket.make_bucket(settings, name):
        print(f"Made the bucket {name} at {settings.dvc_endpoint_url}.")
    else:
        print(f"The bucket {name} is there.")
