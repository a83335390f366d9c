"""`make env`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from dotenv import dotenv_values
from sqlalchemy import make_url

from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.core.files import InTheWay
from rayonnage_shared.ops.secret_files import NO_SLACK, SecretRefused, secret_contents, write_secrets
from rayonnage_shared.ops.settings_catalogue import settings_classes

ENV = {"ADMIN_USERNAME": "zoe", "ADMIN_PASSWORD": "correct-horse-battery", "SECRET_KEY": "k" * 40}


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in settings_classes().values():
        for name in service.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)


def files(home: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (home / ".secrets").iterdir()}


def name_in_env(home: Path, line: str) -> None:
    with (home / ".env").open("a") as file:
        file.write(f"{line}\n")


def test_a_first_call_makes_everything_that_containers_mount(tmp_path: Path) -> None:
    written = write_secrets(tmp_path)
    found = files(tmp_path)
    assert set(written.made) == set(found) and written.changed == ()
    assert written.settings == dotenv_values(tmp_path / ".env")
    assert found["admin_password"] == written.settings["ADMIN_PASSWORD"]
    assert found["secret_key"] == written.settings["SECRET_KEY"]
    assert found["slack_webhook_url"] == NO_SLACK
    assert found["dvc_password"] == found["mlflow_tracking_password"] == found["dagshub_token"] == ""


def test_containers_of_other_users_may_read_the_files_and_nobody_else_gets_there(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    assert (tmp_path / ".secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / ".secrets").iterdir()} == {0o444}


def test_two_places_share_no_secret(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for home in (one, other):
        home.mkdir()
        write_secrets(home)
    same = {name for name, content in files(one).items() if files(other)[name] == content}
    without_account = {"dvc_password", "dagshub_token", "mlflow_tracking_password", "otel_exporter_otlp_headers"}
    assert same == {"slack_webhook_url"} | without_account


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    before = files(tmp_path)
    written = write_secrets(tmp_path)
    assert (written.settings, written.made, written.changed) == ({}, (), ())
    assert files(tmp_path) == before


def test_addresses_hold_the_passwords_of_their_servers(tmp_path: Path) -> None:
    name_in_env(tmp_path, "POSTGRES_PASSWORD='a b/c@d:e%f'")
    write_secrets(tmp_path)
    found = files(tmp_path)
    databases = {"database_url": "rayonnage", "mlflow_backend_store_uri": "mlflow", "airflow_database_url": "airflow"}
    for name, database in databases.items():
        address = make_url(found[name])
        assert (address.password, address.host, address.database) == ("a b/c@d:e%f", "postgres", database)
    assert found["redis_url"] == f"redis://:{found['redis_password']}@redis:6379/0"
    assert found["redis_auth"] == f'requirepass "{found["redis_password"]}"\n'
    (identity,) = json.loads(found["s3_identities.json"])["identities"]
    assert identity["credentials"] == [
        {"accessKey": found["dvc_access_key_id"], "secretKey": found["dvc_secret_access_key"]}
    ]


def test_a_secret_is_changed_by_naming_it_in_env(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    before = files(tmp_path)
    name_in_env(tmp_path, "REDIS_PASSWORD=another-one")
    written = write_secrets(tmp_path)
    assert set(written.changed) == {"redis_password", "redis_url", "redis_auth"}
    after = files(tmp_path)
    assert {name for name in after if after[name] != before[name]} == set(written.changed)
    assert after["redis_url"] == "redis://:another-one@redis:6379/0"


def test_airflow_retrains_as_the_first_admin_unless_a_user_of_its_own_is_named(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    assert files(tmp_path)["retrain_password"] == files(tmp_path)["admin_password"]
    name_in_env(tmp_path, "RETRAIN_PASSWORD=of-its-own-user")
    assert write_secrets(tmp_path).changed == ("retrain_password",)
    assert files(tmp_path)["retrain_password"] == "of-its-own-user"


def test_what_airflow_encrypts_with_is_a_fernet_key(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    key = Fernet(files(tmp_path)["airflow_fernet_key"])
    assert key.decrypt(key.encrypt(b"a connection")) == b"a connection"


def test_a_secret_is_made_anew_when_its_file_is_removed(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    before = files(tmp_path)
    (tmp_path / ".secrets" / "postgres_password").unlink()
    write_secrets(tmp_path)
    after = files(tmp_path)
    assert after["postgres_password"] != before["postgres_password"]
    assert make_url(after["database_url"]).password == after["postgres_password"]


def test_an_env_file_that_was_lost_gets_the_secrets_that_are_in_use(tmp_path: Path) -> None:
    first = write_secrets(tmp_path)
    (tmp_path / ".env").unlink()
    write_secrets(tmp_path)
    assert dotenv_values(tmp_path / ".env") == first.settings


def test_servers_of_ones_own_are_named_in_env() -> None:
    own = {
        "DATABASE_URL": "postgresql://me:pw@db.example/r",
        "REDIS_URL": "redis://cache",
        "SLACK_WEBHOOK_URL": "https://h",
    }
    found = secret_contents(ENV | own, {})
    assert {name.upper(): found[name.lower()] for name in own} == own


def test_the_database_of_make_run_is_not_that_of_containers() -> None:
    found = secret_contents(ENV | {"DATABASE_URL": "sqlite:///data/rayonnage.db"}, {})
    assert make_url(found["database_url"]).host == "postgres"


@pytest.mark.parametrize(
    "line",
    ["ADMIN_PASSWORD=change-me", "ADMIN_PASSWORD=short", "SECRET_KEY=changeme-0123", "POSTGRES_PASSWORD=changeme",
     "REDIS_URL=redis://:password@redis", "DVC_SECRET_ACCESS_KEY=your-key-change-me"],
)  # fmt: skip
def test_a_copied_example_is_refused_and_nothing_is_written(tmp_path: Path, line: str) -> None:
    name_in_env(tmp_path, line)
    name, _, value = line.partition("=")
    with pytest.raises(SecretRefused, match=f"^{name}: ") as refused:
        write_secrets(tmp_path)
    assert value not in str(refused.value)
    assert not (tmp_path / ".secrets").exists()


def test_development_may_have_simple_secrets_when_it_says_so() -> None:
    simple = ENV | {"ADMIN_PASSWORD": "admin", "ENVIRONMENT": "development"}
    assert secret_contents(simple, {})["admin_password"] == "admin"


@pytest.mark.parametrize("value", ["two\nlines", " spaced", "bell\a"])
def test_a_value_that_a_file_would_not_keep_is_refused(value: str) -> None:
    with pytest.raises(SecretRefused, match="GRAFANA_ADMIN_PASSWORD"):
        secret_contents(ENV | {"GRAFANA_ADMIN_PASSWORD": value}, {})


def test_redis_reads_the_password_as_it_is() -> None:
    found = secret_contents(ENV | {"REDIS_PASSWORD": 'say "hi" \\o/'}, {})
    assert found["redis_auth"] == 'requirepass "say \\"hi\\" \\\\o/"\n'


def test_a_webhook_is_an_address(tmp_path: Path) -> None:
    name_in_env(tmp_path, "SLACK_WEBHOOK_URL=hooks.slack.example/T0")
    with pytest.raises(InvalidSetting, match=r"^`SLACK_WEBHOOK_URL` must begin with https://"):
        write_secrets(tmp_path)


def test_a_folder_that_docker_made_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / ".secrets" / "redis_url").mkdir(parents=True)
    with pytest.raises(InTheWay, match=r"redis_url is a folder\. Docker creates"):
        write_secrets(tmp_path)
