"""The auth process as the supervisor starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx2
from jose import jwt

from rayonnage_shared.auth.dependencies import refreshing_keys
from rayonnage_shared.auth.signing_keys import KeyFolder
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.core.errors import NotAuthenticated
from rayonnage_shared.core.settings import TokenSettings
from tests.e2e.auth_process import PASSWORD, auth_process
from tests.waiting import PATIENCE_S, eventually_async


def _guess(client: httpx2.Client, number: int, address: str) -> int:
    form = {"username": f"user{number}", "password": "guess"}
    return client.post("/token", data=form, headers={"X-Forwarded-For": address}).status_code


def test_the_callers_address_is_believed_from_a_trusted_proxy_alone(tmp_path: Path) -> None:
    with auth_process(tmp_path, LOGIN_FAILURES_PER_ADDRESS="2") as client:
        assert [_guess(client, number, "9.9.9.9") for number in range(3)] == [401, 401, 429]
        assert _guess(client, 3, "8.8.8.8") == 401
        # Whatever the caller wrote in front stays unbelieved: the last proxy's word counts.
        assert _guess(client, 4, "7.7.7.7, 9.9.9.9") == 429
    with auth_process(tmp_path, LOGIN_FAILURES_PER_ADDRESS="2", FORWARDED_ALLOW_IPS="127.0.0.0/8") as client:
        assert [_guess(client, number, f"9.9.9.{number}") for number in range(3)] == [401, 401, 401]
    with auth_process(tmp_path, LOGIN_FAILURES_PER_ADDRESS="2", FORWARDED_ALLOW_IPS="10.9.9.0/24") as client:
        assert [_guess(client, number, f"9.9.9.{number}") for number in range(3)] == [401, 401, 429]


async def test_another_service_learns_of_a_logout_and_of_a_new_key(tmp_path: Path) -> None:
    with auth_process(tmp_path) as client:
        settings = TokenSettings(_env_file=None, auth_url=str(client.base_url))
        verifier = TokenVerifier(settings)
        async with refreshing_keys(verifier, settings):
            assert await eventually_async(lambda: verifier.has_keys)
            token = _log_in(client)
            assert verifier.verify(token).username == "root"
            client.post("/logout", headers={"Authorization": f"Bearer {token}"})
            assert await eventually_async(lambda: _refused(verifier, token))
            old = _log_in(client)
            KeyFolder(tmp_path / "keys", "ES256", timedelta(minutes=30)).rotate(at_once=True)
            assert await eventually_async(lambda: _key_of(_log_in(client)) != _key_of(old)), "auth notices by itself"
            new = _log_in(client)
            assert await eventually_async(lambda: not _refused(verifier, new))
            assert _refused(verifier, old)


def _log_in(client: httpx2.Client) -> str:
    return str(client.post("/token", data={"username": "root", "password": PASSWORD}).json()["access_token"])


def _refused(verifier: TokenVerifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except NotAuthenticated:
        return True
    return False


def _key_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def test_tokens_outlive_a_restart_of_auth(tmp_path: Path) -> None:
    with auth_process(tmp_path) as client:
        pair = client.post("/token", data={"username": "root", "password": PASSWORD}).json()
    with auth_process(tmp_path, ADMIN_PASSWORD="another-good-password") as client:
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        assert client.get("/users/me", headers=headers).status_code == 200
        assert client.post("/token/refresh", json={"refresh_token": pair["refresh_token"]}).status_code == 200
        # The settings name the first admin only; they never change a password later.
        assert client.post("/token", data={"username": "root", "password": PASSWORD}).status_code == 200


def test_a_weak_password_outside_development_stops_the_start_with_a_clear_message(tmp_path: Path) -> None:
    environment = {**os.environ, "ENVIRONMENT": "production", "ADMIN_USERNAME": "root", "ADMIN_PASSWORD": "change-me"}
    done = subprocess.run(
        [sys.executable, "-m", "rayonnage_auth"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode != 0
    assert "ADMIN_PASSWORD is refused outside development" in done.stderr
    assert "change-me" not in done.stderr
