"""`rayonnage env | certs | migrate | make-bucket | dvc-config`: prepare a deployment in containers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rayonnage_shared.core.settings import DatabaseSettings
from rayonnage_shared.sync.dvc.settings import VersioningSettings

HOME = Path()


def register(app: typer.Typer) -> None:
    """Add the deployment commands."""
    for command in (env, certs, migrate, make_bucket, dvc_config):
        app.command()(command)


def env() -> None:
    """Complete .env and write the containers' secrets to .secrets; existing values are kept.

    To change a secret, set it in .env (POSTGRES_PASSWORD=…) and run this again.
    """
    from rayonnage_shared.ops.env_file import ADMIN_PASSWORD, effective, first_admin
    from rayonnage_shared.ops.older_settings import without_effect
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
        print("Running containers keep their old secrets; apply with: docker compose up --detach --force-recreate")
    if "postgres_password" in written.changed:
        print("An initialised PostgreSQL keeps its password; change it with ALTER ROLE rayonnage PASSWORD '…'.")
    if older := without_effect(effective(HOME)):
        print(older)


def certs(
    host: Annotated[
        list[str] | None, typer.Option(help="Additional host name or address of this machine; repeatable.")
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Replace certificates that are still valid.")] = False,
) -> None:
    """Create a certificate for nginx in .certs, and an authority that can be imported into browsers.

    An existing certificate is kept unless it has expired or lacks a name. One from another authority is always kept.
    """
    from rayonnage_shared.ops.certificates import AUTHORITY, FOLDER, provide_certificate

    found = provide_certificate(HOME / FOLDER, host or (), renew=renew)
    print(f"{'Created' if found.new else 'Kept'} the certificate in {FOLDER} for {', '.join(found.names)};")
    print(f"it is valid until {found.expires:%Y-%m-%d}.", end=" ")
    if found.foreign:
        print("It is from another authority, so it is left unchanged.")
    else:
        print(f"Import {FOLDER}/{AUTHORITY} into a browser to trust it.")


def migrate() -> None:
    """Migrate the database; run it once before services of a new version start."""
    from rayonnage_shared.cli.database import command_database

    with command_database(DatabaseSettings()):
        print("The database is up to date.")


def make_bucket() -> None:
    """Create the bucket of the DVC remote on the S3 server at DVC_ENDPOINT_URL, unless it exists."""
    from rayonnage_shared.sync.dvc import bucket as dvc_bucket

    settings = VersioningSettings()
    name = dvc_bucket.bucket_name(settings)
    if name is None:
        print("No self-hosted S3 remote is set (DVC_REMOTE_URL, DVC_ENDPOINT_URL), so there is nothing to create.")
    elif dvc_bucket.make_bucket(settings, name):
        print(f"Created the bucket {name} at {settings.dvc_endpoint_url}.")
    else:
        print(f"The bucket {name} exists.")


def dvc_config() -> None:
    """Write the remote of DVC_REMOTE_URL into .dvc/config.local, so that `dvc pull` works by itself."""
    from rayonnage_shared.sync.dvc.connection import remote_address
    from rayonnage_shared.sync.dvc.local_config import write_local_config

    settings = VersioningSettings()
    if write_local_config(settings):
        print(f"Wrote the DVC remote {remote_address(settings) or '(none)'} to .dvc/config.local.")
