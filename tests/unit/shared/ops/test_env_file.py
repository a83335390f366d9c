"""How `.env` is written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from pydantic import Field, SecretStr

from rayonnage_shared.auth.passwords import weakness
from rayonnage_shared.core.settings import MIN_SECRET_BYTES, Settings
from rayonnage_shared.ops.env_file import complete_env_file, effective
from rayonnage_shared.ops.settings_catalogue import env_example


def test_a_first_env_file_has_random_secrets_that_only_its_owner_may_read(tmp_path: Path) -> None:
    added = complete_env_file(tmp_path, {})
    (tmp_path / "other").mkdir()
    others = complete_env_file(tmp_path / "other", {})

    assert dotenv_values(tmp_path / ".env") == added
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert set(added) == {"ADMIN_USERNAME", "ADMIN_PASSWORD", "SECRET_KEY"}
    assert weakness(added["ADMIN_PASSWORD"], added["ADMIN_USERNAME"]) is None
    assert len(added["SECRET_KEY"]) >= MIN_SECRET_BYTES
    assert added["SECRET_KEY"] != others["SECRET_KEY"]
    assert added["ADMIN_PASSWORD"] != others["ADMIN_PASSWORD"]


def test_a_second_time_nothing_changes(tmp_path: Path) -> None:
    complete_env_file(tmp_path, {})
    before = (tmp_path / ".env").read_bytes()
    assert complete_env_file(tmp_path, {}) == {}
    assert (tmp_path / ".env").read_bytes() == before


def test_an_existing_file_is_completed_and_its_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nGATEWAY_PORT=9000\nADMIN_USERNAME=zoé\nADMIN_PASSWORD=\n")
    path.chmod(0o644)

    added = complete_env_file(tmp_path, {})

    assert set(added) == {"ADMIN_PASSWORD", "SECRET_KEY"}
    assert path.read_text().startswith("# mine\nGATEWAY_PORT=9000\nADMIN_USERNAME=zoé\nADMIN_PASSWORD=")
    assert dotenv_values(path)["ADMIN_PASSWORD"] == added["ADMIN_PASSWORD"] != ""
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_first_admin_named_in_the_environment_is_written_down(tmp_path: Path) -> None:
    complete_env_file(tmp_path, {"ADMIN_USERNAME": "zoe", "ADMIN_PASSWORD": "une clé $pour 'ouvrir'"})
    assert dotenv_values(tmp_path / ".env")["ADMIN_USERNAME"] == "zoe"
    assert dotenv_values(tmp_path / ".env")["ADMIN_PASSWORD"] == "une clé $pour 'ouvrir'"


def test_the_environment_wins_over_the_file_in_either_case(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GATEWAY_PORT=9000\nAUTH_PORT=9011\n")
    assert effective(tmp_path, {"gateway_port": "9500"}) == {"GATEWAY_PORT": "9500", "AUTH_PORT": "9011"}


def test_files_of_secrets_count_where_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").mkdir()
    for name in ("admin_password", "auth_port", "gateway_port", "s3.json"):
        (tmp_path / "kept" / name).write_text(f"{name}-in-a-file\n")
    monkeypatch.setenv("SECRETS_PATH", str(tmp_path / "kept"))
    monkeypatch.setenv("GATEWAY_PORT", "9500")
    monkeypatch.delenv("ADMIN_PASSWORD", raising=False)
    (tmp_path / ".env").write_text("AUTH_PORT=9011\n")
    values = effective(tmp_path)
    assert (values["GATEWAY_PORT"], values["AUTH_PORT"]) == ("9500", "9011")
    assert values["ADMIN_PASSWORD"] == "admin_password-in-a-file"
    assert "S3.JSON" not in values
    assert complete_env_file(tmp_path)["ADMIN_PASSWORD"] == "admin_password-in-a-file"


class OneSettings(Settings):
    size_px: int = Field(224, description="Side, pixels.")
    key: SecretStr = Field(SecretStr("never shown"), description="Opens the door.")
    both: str = Field("one", description="Read by both.")


class OtherSettings(Settings):
    both: str = Field("one", description="Read by both.")
    loud: bool = Field(True, description="Say everything.")


def test_the_example_names_each_setting_once_with_its_description_and_default() -> None:
    text = env_example({"one": OneSettings, "other": OtherSettings})
    assert "# Side, pixels.\n#SIZE_PX=224\n" in text
    assert "# Say everything.\n#LOUD=true\n" in text
    assert text.count("# Read by both.\n#BOTH=one\n") == text.count("#BOTH=") == 1


def test_the_example_keeps_secrets_empty() -> None:
    text = env_example({"one": OneSettings})
    assert "#KEY=\n" in text
    assert "never shown" not in text


@pytest.mark.parametrize(
    "field", [Field("other", description="Read by both."), Field("one", description="Read by two.")]
)
def test_two_services_may_not_declare_a_setting_differently(field: Any) -> None:
    class Different(Settings):
        both: str = field

    with pytest.raises(ValueError, match="BOTH differs between one, other"):
        env_example({"one": OneSettings, "other": Different})


def test_nothing_in_a_copied_example_counts(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(env_example({"one": OneSettings}))
    assert effective(tmp_path, {}) == {}


@pytest.mark.parametrize("value", ["plain-text_1.0", "with space", "a#b", "a$b", "it's", 'say "so"', "back\\slash"])
def test_values_are_quoted_so_that_they_read_back_the_same(tmp_path: Path, value: str) -> None:
    complete_env_file(tmp_path, {"ADMIN_PASSWORD": value})
    assert effective(tmp_path, {})["ADMIN_PASSWORD"] == value
