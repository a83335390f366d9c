"""The DagsHub account is used for a DVC remote and an MLflow server at dagshub.com, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from rayonnage_shared.core.settings import OptionalSecret
from rayonnage_shared.sync.dagshub import is_at_dagshub
from rayonnage_shared.sync.settings import SyncSettings

HTTPS = "https://dagshub.com/claire/shop"


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSHUB_USERNAME", "claire")
    monkeypatch.setenv("DAGSHUB_TOKEN", "the-token")


def settings(**values: Any) -> SyncSettings:
    return SyncSettings(_env_file=None, **values)


def shown(secret: OptionalSecret) -> str | None:
    return secret.get_secret_value() if secret else None


def test_the_token_is_both_keys_of_an_s3_remote() -> None:
    found = settings(dvc_remote_url="s3://dvc", dvc_endpoint_url=f"{HTTPS}.s3", dvc_access_key_id="of another server")
    assert (found.dvc_access_key_id, shown(found.dvc_secret_access_key)) == ("the-token", "the-token")
    assert found.dvc_user is None


def test_user_and_token_log_in_at_an_https_remote_and_at_mlflow() -> None:
    found = settings(dvc_remote_url=f"{HTTPS}.dvc", mlflow_tracking_uri=f"{HTTPS}.mlflow")
    assert (found.dvc_user, shown(found.dvc_password)) == ("claire", "the-token")
    assert (found.mlflow_tracking_username, shown(found.mlflow_tracking_password)) == ("claire", "the-token")


def test_the_token_goes_to_no_other_server() -> None:
    found = settings(
        dvc_remote_url="https://dagshub.com.example/x",
        dvc_endpoint_url="https://s3.example/dagshub.com",
        mlflow_tracking_uri="https://mlflow.example",
    )
    assert "the-token" not in map(
        shown, (found.dvc_secret_access_key, found.dvc_password, found.mlflow_tracking_password)
    )
    assert found.dvc_access_key_id is None


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (HTTPS, True),
        ("https://user@dagshub.com/x", True),
        ("https://api.dagshub.com", True),
        ("https://notdagshub.com", False),
        ("https://dagshub.com@evil.example", False),
        ("https://[", False),
        ("data/dvc-remote", False),
        (None, False),
    ],
)
def test_an_address_at_dagshub_is_recognised_by_its_host(address: str | None, expected: bool) -> None:
    assert is_at_dagshub(address) is expected


def test_without_a_token_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSHUB_TOKEN")
    found = settings(dvc_endpoint_url=f"{HTTPS}.s3", dvc_access_key_id="own", mlflow_tracking_uri=f"{HTTPS}.mlflow")
    assert (found.dvc_access_key_id, found.mlflow_tracking_username) == ("own", None)
