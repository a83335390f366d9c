"""`rayonnage env | certs | migrate | make-bucket`: what the commands say; what they do stands in tests of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from dotenv import dotenv_values
from sqlalchemy import inspect
from typer.testing import CliRunner

from rayonnage_shared.cli import deployment
from rayonnage_shared.database.engine import open_database


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ADMIN_USERNAME", "ADMIN_PASSWORD", "SECRET_KEY", "POSTGRES_PASSWORD", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str, status: int = 0) -> str:
    app = typer.Typer()
    deployment.register(app)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def test_the_first_admins_password_is_shown_once_and_no_other_secret_ever() -> None:
    output = run("env")
    password = dotenv_values(".env")["ADMIN_PASSWORD"]
    assert password and password in output
    again = run("env")
    assert password not in again and "complete" in again
    for path in Path(".secrets").iterdir():
        content = path.read_text()
        assert not content or content == password or content not in output + again


def test_a_changed_secret_says_what_else_must_change() -> None:
    run("env")
    with Path(".env").open("a") as file:
        file.write("POSTGRES_PASSWORD=rotated-by-hand\n")
    output = run("env")
    assert "postgres_password, database_url, mlflow_backend_store_uri" in output
    assert "--force-recreate" in output and "ALTER ROLE" in output
    assert "rotated-by-hand" not in output


def test_certificates_are_made_once_for_the_names_that_were_asked_for() -> None:
    made = run("certs", "--host", "shop.example", "--host", "192.0.2.7")
    assert "Created the certificate in .certs for localhost, 127.0.0.1, ::1, shop.example, 192.0.2.7;" in made
    content = Path(".certs/server.pem").read_bytes()
    assert "Kept the certificate" in run("certs")
    assert Path(".certs/server.pem").read_bytes() == content
    assert "Created" in run("certs", "--renew")
    assert Path(".certs/server.pem").read_bytes() != content


def test_tables_are_made_once_and_again_without_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/kept/rayonnage.db")
    assert run("migrate") == run("migrate") == "The database is up to date.\n"
    engine = open_database(f"sqlite:///{tmp_path}/kept/rayonnage.db")
    assert inspect(engine).has_table("users")
    engine.dispose()


@pytest.mark.parametrize("remote", ["data/dvc-remote", "https://dagshub.example/jane/shop.dvc", "s3://of-amazon", ""])
def test_only_a_bucket_at_an_endpoint_is_made(monkeypatch: pytest.MonkeyPatch, remote: str) -> None:
    monkeypatch.setenv("DVC_REMOTE_URL", remote)
    monkeypatch.delenv("DVC_ENDPOINT_URL", raising=False)
    assert "nothing to create" in run("make-bucket")
