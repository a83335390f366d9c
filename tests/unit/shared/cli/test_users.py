"""`rayonnage users` and `rayonnage keys`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rayonnage_shared.auth.accounts import Accounts, LastAdmin, WrongCredentials
from rayonnage_shared.auth.passwords import PasswordHasher
from rayonnage_shared.auth.schemas import UserChange
from rayonnage_shared.cli import users
from rayonnage_shared.database.engine import open_database

PASSWORD = "correct-horse-battery"


class CommandLine:
    def __init__(self, folder: Path) -> None:
        self.app = typer.Typer()
        users.register(self.app)
        self.engine = open_database(f"sqlite:///{folder}/rayonnage.db")
        self.accounts = Accounts(self.engine, PasswordHasher(memory_kib=64, rounds=1))

    def run(self, *arguments: str, typed: str = "") -> Result:
        result = CliRunner().invoke(self.app, list(arguments), input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/rayonnage.db")
    monkeypatch.setenv("AUTH_KEYS_PATH", str(tmp_path / "keys"))
    monkeypatch.delenv("ALGORITHM", raising=False)
    opened = CommandLine(tmp_path)
    yield opened
    opened.engine.dispose()


def test_a_user_is_added_listed_and_removed(command_line: CommandLine) -> None:
    added = command_line.run("users", "add", "alice", "--role", "admin", typed=f"{PASSWORD}\n")
    assert added.exit_code == 0 and PASSWORD not in added.output
    assert command_line.accounts.verify("alice", PASSWORD)
    assert "alice" in command_line.run("users", "list").output
    command_line.run("users", "add", "bob", "--generate")
    command_line.run("users", "remove", "bob")
    assert [user.username for user in command_line.accounts.users()] == ["alice"]


def test_a_generated_password_is_shown_once_and_works(command_line: CommandLine) -> None:
    output = command_line.run("users", "add", "alice", "--generate").output
    assert command_line.accounts.verify("alice", output.split()[-1])


def test_a_lost_admin_is_reset(command_line: CommandLine) -> None:
    for name in ("root", "idle"):
        command_line.run("users", "add", name, "--role", "admin", typed=f"{PASSWORD}\n")
    command_line.accounts.change("idle", UserChange(active=False))
    command_line.run("users", "reset-password", "idle", typed="paper-clip-mountain\n")
    assert command_line.accounts.verify("idle", "paper-clip-mountain")
    with pytest.raises(WrongCredentials):
        command_line.accounts.verify("idle", PASSWORD)


def test_roles_change_and_the_last_admin_stays(command_line: CommandLine) -> None:
    command_line.run("users", "add", "alice", "--generate")
    command_line.run("users", "set-role", "alice", "admin")
    assert command_line.accounts.get("alice").role == "admin"
    with pytest.raises(LastAdmin):
        command_line.run("users", "set-role", "alice", "user")
    with pytest.raises(LastAdmin):
        command_line.run("users", "remove", "alice")


def test_a_weak_password_is_refused_before_anything_happens(command_line: CommandLine) -> None:
    assert command_line.run("users", "add", "alice", typed="short\n").exit_code == 2
    assert not Path("rayonnage.db").exists()


def test_keys_are_rotated(command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command_line.run("keys", "rotate")
    command_line.run("keys", "rotate")
    assert len(list((tmp_path / "keys").glob("*.pem"))) == 2
    command_line.run("keys", "rotate", "--at-once")
    assert len(list((tmp_path / "keys").glob("*.pem"))) == 1
    monkeypatch.setenv("ALGORITHM", "HS256")
    monkeypatch.setenv("SECRET_KEY", "0123456789abcdef" * 4)
    assert command_line.run("keys", "rotate").exit_code == 2
