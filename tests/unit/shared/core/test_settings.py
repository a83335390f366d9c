"""Where settings come from, and which values are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from rayonnage_shared.core import settings
from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.core.settings import (
    DatabaseSettings,
    OptionalSecret,
    Proxies,
    ServiceSettings,
    Settings,
    is_example_secret,
    read_settings,
)


class KitchenSettings(ServiceSettings):
    redis_url: OptionalSecret = None
    database_url: str = "sqlite:///kitchen.db"
    proxies: Proxies = ""


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a secret to a file of the folder that SECRETS_PATH names."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv("SECRETS_PATH", str(folder))

    def write(name: str, value: str) -> None:
        (folder / name).write_text(value)

    return write


def test_a_setting_comes_from_a_file_of_its_name_without_the_line_end(keep: Callable[[str, str], None]) -> None:
    keep("redis_url", "redis://:abc@redis:6379/0\n")
    assert KitchenSettings().redis_url == SecretStr("redis://:abc@redis:6379/0")


def test_an_empty_file_is_no_secret(keep: Callable[[str, str], None]) -> None:
    keep("redis_url", "")
    assert KitchenSettings().redis_url is None


def test_env_file_and_environment_win_over_files(
    keep: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep("database_url", "from-file")
    (tmp_path / ".env").write_text("DATABASE_URL=from-dotenv\n")
    assert KitchenSettings().database_url == "from-dotenv"
    monkeypatch.setenv("DATABASE_URL", "from-environment")
    assert KitchenSettings().database_url == "from-environment"


def test_a_mounted_volume_of_links_is_read(
    keep: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So Kubernetes lays out a Secret."""
    folder = tmp_path / "secrets"
    (folder / "..2026").mkdir()
    (folder / "..2026" / "database_url").write_text("linked")
    (folder / "..data").symlink_to("..2026")
    (folder / "database_url").symlink_to("..data/database_url")
    assert KitchenSettings().database_url == "linked"


def test_containers_secrets_are_read_where_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECRETS_PATH", raising=False)
    monkeypatch.setattr(settings, "CONTAINER_SECRETS", tmp_path / "run-secrets")
    assert KitchenSettings().database_url == "sqlite:///kitchen.db"
    (tmp_path / "run-secrets").mkdir()
    (tmp_path / "run-secrets" / "database_url").write_text("mounted")
    assert KitchenSettings().database_url == "mounted"


def test_a_folder_that_is_named_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRETS_PATH", "/nowhere/at/all")
    with pytest.raises(InvalidSetting, match="SECRETS_PATH=/nowhere/at/all is not a readable folder"):
        Settings()


@pytest.mark.parametrize(
    "given",
    [
        {"SECRET_KEY": "change-me"},
        {"REDIS_URL": "redis://:password@redis:6379/0"},
        {"DATABASE_URL": "postgresql://rayonnage:change-me-too@postgres/rayonnage"},
    ],
)
def test_example_secrets_are_refused_outside_development(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ((name, value),) = given.items()
    monkeypatch.setenv(name, value)
    KitchenSettings()
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(InvalidSetting, match=f"{name} is refused outside development") as refused:
        KitchenSettings()
    assert value not in str(refused.value)


@pytest.mark.parametrize("value", ["redis://redis:6379", "postgresql://admin:Xk4_9@[::1]/demo", "", "http://[broken"])
def test_addresses_are_judged_by_their_password(value: str) -> None:
    assert not is_example_secret(value)


@pytest.mark.parametrize("value", ["", "*", "10.0.0.1", "172.31.241.0/24, ::1,fd00::/8", "10.0.0.0/8,"])
def test_proxies_are_addresses_and_networks(value: str) -> None:
    assert KitchenSettings(proxies=value, _env_file=None).proxies == value


@pytest.mark.parametrize("value", ["nginx", "10.0.0.1/8", "10.0.0.0/33", "*,10.0.0.1"])
def test_what_would_silently_be_nobody_is_no_proxy(value: str) -> None:
    with pytest.raises(InvalidSetting):
        KitchenSettings(proxies=value, _env_file=None)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LOG_FILE_COUNT", "many", "`LOG_FILE_COUNT` must be a whole number."),
        ("LOG_LEVEL", "loud", "`LOG_LEVEL` must be 'debug', 'info'"),
        ("AUTH_URL", "http://auth:port", "`AUTH_URL`: Port could not be cast"),
        ("AUTH_URL", "auth:8011", "`AUTH_URL`: 'auth:8011' is not a URL such as http://"),
        ("ALGORITHM", "HS256", "ALGORITHM=HS256 needs a random SECRET_KEY"),
    ],
)
def test_a_process_with_a_setting_that_is_not_valid_exits_with_the_variables_name(
    name: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        read_settings(ServiceSettings)
    assert str(left.value).startswith(f"A setting is not valid: {said}")


def test_each_setting_that_is_not_valid_has_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOG_FILE_COUNT", "0")
    monkeypatch.setenv("LOG_FILE_MAX_BYTES", "0")
    with pytest.raises(InvalidSetting) as refused:
        ServiceSettings()
    assert [line.split()[0] for line in refused.value.detail.splitlines()] == [
        "`LOG_FILE_MAX_BYTES`",
        "`LOG_FILE_COUNT`",
    ]


@pytest.mark.parametrize(
    "value", ["sqlite:///a.db", "postgres://jane@db/x", "postgresql+psycopg://jane:p@[::1]:5432/x"]
)
def test_databases_are_sqlite_and_postgresql(value: str) -> None:
    assert DatabaseSettings(database_url=value, _env_file=None).database_url == value


@pytest.mark.parametrize("value", ["nonsense", "mysql://jane:hidden@db/x"])
def test_another_database_is_refused_without_its_password(value: str) -> None:
    with pytest.raises(InvalidSetting, match="`DATABASE_URL` must be sqlite:///path or postgresql") as refused:
        DatabaseSettings(database_url=value, _env_file=None)
    assert "hidden" not in str(refused.value)
