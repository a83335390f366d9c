"""`rayonnage users … | keys …`: the user store and the signing keys, without the auth service.

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
Generate = Annotated[bool, typer.Option("--generate", help="Make a random password and print it once.")]


class KeySettings(TokenSettings, KeyFolderSettings):
    """What `rayonnage keys` reads from the environment."""


def register(app: typer.Typer) -> None:
    """Add the commands about users and signing keys to the command line."""
    users = typer.Typer(no_args_is_help=True, help="Users: list, add, remove, roles, lost passwords.")
    users.command("list")(list_users)
    users.command("add")(add_user)
    users.command("remove")(remove_user)
    users.command("reset-password")(reset_password)
    users.command("set-role")(set_role)
    app.add_typer(users, name="users")
    keys = typer.Typer(no_args_is_help=True, help="The keys that tokens are signed with.")
    keys.callback()(lambda: None)  # keeps `rotate` a sub-command although it is the only one
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
    role: Annotated[Role, typer.Option(help="What the user may do.")] = "user",
    generate: Generate = False,
) -> None:
    """Add a user."""
    password = _new_password(username, generate)
    with _accounts() as accounts:
        user = accounts.create(username, password, role)
    print(f"{user.username} is there, with the role {user.role}.")
    _show(password, generate)


def remove_user(username: Name) -> None:
    """Remove a user; the last active admin stays."""
    with _accounts() as accounts:
        accounts.delete(username)
    print(f"{username} is gone.")


def reset_password(username: Name, generate: Generate = False) -> None:
    """Give a user a new password and make the account active again; all of the user's tokens end."""
    password = _new_password(username, generate)
    with _accounts() as accounts:
        accounts.change(username, UserChange.model_validate({"password": password, "active": True}))
    print(f"{username} has a new password.")
    _show(password, generate)


def set_role(username: Name, role: Annotated[Role, typer.Argument(help="user or admin.")]) -> None:
    """Change what a user may do; all of the user's tokens end."""
    with _accounts() as accounts:
        user = accounts.change(username, UserChange(role=role))
    print(f"{user.username} has the role {user.role}.")


def rotate_keys(
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Delete the older keys now (a key was stolen): everybody logs in again.")
    ] = False,
) -> None:
    """Add a signing key; the older ones retire when the tokens signed with them have expired."""
    from rayonnage_shared.auth.signing_keys import KeyFolder

    settings = KeySettings()
    if settings.algorithm == "HS256":
        raise typer.BadParameter("with ALGORITHM=HS256 there is no key folder; change SECRET_KEY instead")
    life = timedelta(minutes=settings.access_token_expire_minutes)
    kid = KeyFolder(settings.auth_keys_path, settings.algorithm, life).rotate(at_once=at_once)
    when = "and signs with it at once" if at_once else "and signs with it in two minutes, when every service knows it"
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
        print(f"The password, shown this once: {password}")
