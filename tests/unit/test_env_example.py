"""`.env.example` and the settings classes say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayonnage_shared.ops.settings_catalogue import Setting, all_settings, env_example

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def test_the_example_is_what_the_settings_classes_give() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == env_example(), "run `make env-example`"


def test_names_in_the_example_are_settings_and_the_other_way_round() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    names = [line[1:].partition("=")[0] for line in lines if line.startswith("#") and not line.startswith("# ")]
    assert sorted(names) == sorted({setting.name for setting in all_settings()})


@pytest.mark.parametrize("setting", all_settings(), ids=lambda setting: str(setting.name))
def test_every_setting_says_what_it_is(setting: Setting) -> None:
    assert all(field.description for field in setting.fields.values())


@pytest.mark.parametrize(
    "name",
    [
        "ADMIN_USERNAME",
        "ADMIN_PASSWORD",
        "SECRET_KEY",
        "ALGORITHM",
        "ACCESS_TOKEN_EXPIRE_MINUTES",
        "PREDICT_RATE_LIMIT",
        "GATEWAY_PORT",
        "DATABASE_URL",
        "REDIS_URL",
        "MODELS_PATH",
        "DATA_PATH",
        "LOGS_PATH",
        "DEMO",
    ],
)
def test_the_settings_that_every_user_meets_are_there(name: str) -> None:
    assert name in {setting.name for setting in all_settings()}


def test_secrets_are_recognised() -> None:
    secret = {setting.name for setting in all_settings() if setting.secret}
    assert {"ADMIN_PASSWORD", "SECRET_KEY", "REDIS_URL"} <= secret
