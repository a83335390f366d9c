"""`rayonnage users … | keys …`: manage users and signing keys without the auth service.

A running auth service notices every change within a second, and revokes tokens accordingly.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rayonnage_shared.auth.accounts import Accounts
from rayonnage_shared.auth.passwords import PasswordHasher, weakness
from rayonnage_shared.auth.schemas import Role, UserChange
from rayonnage_shared.cli.database import command_database
from rayonnage_shared.core.settings import DatabaseSettings, KeyFolderSettings, TokenSettings

Name = Annotated[str, typer.Argument(help="The user's name.")]
Generate = Annotated[bool, typer.Option("--generate", help="Generate a random password and print it once.")]


class KeySettings(TokenSettings, KeyFolderSettings):
    """Settings of `rayonnage keys`."""


def register(app: typer.Typer) -> None:
    """Add the user and key commands."""
    users = typer.Typer(no_args_is_help=True, help="Manage users: list, add, remove, set roles, reset passwords.")
    users.command("list")(list_users)
    users.command("add")(add_user)
    users.command("remove")(remove_user)
    users.command("reset-password")(reset_password)
    users.command("set-role")(set_role)
    app.add_typer(users, name="users")
    keys = typer.Typer(no_args_is_help=True, help="Manage the signing keys of tokens.")
    keys.callback()(lambda: None)  # keeps `rotate` a sub-command
    keys.command("rotate")(rotate_keys)
    app.add_typer(keys, name="keys")


def list_users() -> None:
    """List all users by name."""
    table = Table("user", "role", "active", "since")
    with _accounts() as accounts:
        users = accounts.users()
    for user in users:
        table.add_row(user.username, user.role, "yes" if user.active else "no", f"{user.created_at:%Y-%m-%d %H:%M}")
    Console().print(table)


def add_user(
    username: Name,
    role: Annotated[Role, typer.Option(help="The user's role.")] = "user",
    generate: Generate = False,
) -> None:
    """Add a user."""
    password = _new_password(username, generate)
    with _accounts() as accounts:
        user = accounts.create(username, password, role)
    print(f"Added {user.username} with the role {user.role}.")
    _show(password, generate)


def remove_user(username: Name) -> None:
    """Remove a user. The last active admin cannot be removed."""
    with _accounts() as accounts:
        accounts.delete(username)
    print(f"Removed {username}.")


def reset_password(username: Name, generate: Generate = False) -> None:
    """Set a new password and reactivate the account; the user's tokens are revoked."""
    password = _new_password(username, generate)
    with _accounts() as accounts:
        accounts.change(username, UserChange.model_validate({"password": password, "active": True}))
    print(f"{username} has a new password.")
    _show(password, generate)


def set_role(username: Name, role: Annotated[Role, typer.Argument(help="user or admin.")]) -> None:
    """Change a user's role; the user's tokens are revoked."""
    with _accounts() as accounts:
        user = accounts.change(username, UserChange(role=role))
    print(f"{user.username} has the role {user.role}.")


def rotate_keys(
    at_once: Annotated[
        bool,
        typer.Option("--at-once", help="Delete the older keys now, for a stolen key: all users must log in again."),
    ] = False,
) -> None:
    """Add a signing key; older keys are removed when their tokens have expired."""
    from rayonnage_shared.auth.signing_keys import KeyFolder

    settings = KeySettings()
    if settings.algorithm == "HS256":
        raise typer.BadParameter("ALGORITHM=HS256 uses no key folder; change SECRET_KEY instead")
    life = timedelta(minutes=settings.access_token_expire_minutes)
    kid = KeyFolder(settings.auth_keys_path, settings.algorithm, life).rotate(at_once=at_once)
    when = (
        "and signs with it at once"
        if at_once
        else "and signs with it in two minutes, when every service has fetched it"
    )
    print(f"New key {kid} in {settings.auth_keys_path}; auth publishes it now {when}.")


@contextmanager
def _accounts() -> Iterator[Accounts]:
    with command_database(DatabaseSettings()) as engine:
        yield Accounts(engine, PasswordHasher())


def _new_password(username: str, generate: bool) -> str:
    if generate:
        return secrets.token_urlsafe(15)
    if sys.stdin.isatty():
        password = str(typer.prompt("New password", hide_input=True, confirmation_prompt=True))
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    reason = weakness(password, username)
    if reason is not None:
        raise typer.BadParameter(reason)
    return password


def _show(password: str, generated: bool) -> None:
    if generated:
        print(f"Password (shown only once): {password}")
