"""HTTP of auth."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from pydantic import SecretStr
from structlog.testing import capture_logs

from rayonnage_auth import app as auth_app
from rayonnage_auth import feed
from rayonnage_auth.app import create_app
from rayonnage_auth.settings import AuthSettings
from rayonnage_shared.auth import dependencies
from rayonnage_shared.auth.accounts import Accounts
from rayonnage_shared.auth.passwords import PasswordHasher
from rayonnage_shared.auth.schemas import UserChange
from rayonnage_shared.core import disk
from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.database.engine import open_database
from tests.waiting import PATIENCE_S

ADMIN_PASSWORD = "correct-horse-battery"
PASSWORD = "paper-clip-mountain"
CHEAP = PasswordHasher(memory_kib=64, rounds=1)


@pytest.fixture
def settings(tmp_path: Path) -> AuthSettings:
    return AuthSettings(
        _env_file=None,
        database_url=f"sqlite:///{tmp_path}/rayonnage.db",
        auth_keys_path=tmp_path / "keys",
        admin_username="root",
        admin_password=SecretStr(ADMIN_PASSWORD),
    )


@pytest.fixture
async def app(settings: AuthSettings) -> AsyncIterator[FastAPI]:
    built = create_app(settings, CHEAP)
    async with built.router.lifespan_context(built):
        yield built


class Caller:
    """A caller from one address, with or without a token."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def token(self, username: str = "root", password: str = ADMIN_PASSWORD) -> httpx2.Response:
        return await self.client.post("/token", data={"username": username, "password": password})

    async def log_in(self, username: str = "root", password: str = ADMIN_PASSWORD) -> dict[str, Any]:
        answer = await self.token(username, password)
        assert answer.status_code == 200, answer.text
        pair: dict[str, Any] = answer.json()
        self.client.headers["Authorization"] = f"Bearer {pair['access_token']}"
        return pair

    async def add(self, username: str, role: str = "user") -> None:
        answer = await self.client.post("/users", json={"username": username, "password": PASSWORD, "role": role})
        assert answer.status_code == 201, answer.text


@pytest.fixture
async def caller(app: FastAPI) -> AsyncIterator[Callable[..., Caller]]:
    clients: list[httpx2.AsyncClient] = []

    def make(address: str = "10.0.0.1") -> Caller:
        transport = httpx2.ASGITransport(app, client=(address, 1234))
        clients.append(httpx2.AsyncClient(transport=transport, base_url="http://auth"))
        return Caller(clients[-1])

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
async def root(caller: Callable[..., Caller]) -> Caller:
    made = caller()
    await made.log_in()
    return made


def _failures(reason: str) -> float:
    return REGISTRY.get_sample_value("rayonnage_login_failures_total", {"reason": reason}) or 0.0


async def test_the_password_form_gives_a_bearer_token(caller: Callable[..., Caller]) -> None:
    answer = await caller().token()
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json().keys() == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("bearer", 1800)


async def test_swaggers_and_older_clients_forms_are_accepted(caller: Callable[..., Caller]) -> None:
    form = {"username": "root", "password": ADMIN_PASSWORD, "grant_type": "password", "scope": "", "client_id": "x"}
    assert (await caller().client.post("/token", data={**form, "state": "ignored"})).status_code == 200


async def test_refused_logins_look_the_same_whoever_it_was(caller: Callable[..., Caller]) -> None:
    before = _failures("unknown_user"), _failures("wrong_password")
    wrong, unknown = await caller().token("root", "x"), await caller().token("nobody", "x")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.headers["WWW-Authenticate"] == "Bearer"
    documents = [{**answer.json(), "request_id": ""} for answer in (wrong, unknown)]
    assert documents[0] == documents[1]
    assert documents[0]["code"] == "wrong_credentials"
    assert (_failures("unknown_user"), _failures("wrong_password")) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"username": "root"},
        {"username": "root", "password": ""},
        {"username": "x" * 65, "password": "y"},
        {"username": "root", "password": "y" * 257},
        {"username": "root", "password": "y", "grant_type": "client_credentials"},
    ],
)
async def test_a_form_that_is_none_is_a_422_without_its_password(
    caller: Callable[..., Caller], form: dict[str, str]
) -> None:
    answer = await caller().client.post("/token", data=form)
    assert answer.status_code == 422
    assert "yyy" not in answer.text


async def test_many_failures_for_a_user_are_throttled_and_the_user_gets_in_from_a_known_address(
    caller: Callable[..., Caller],
) -> None:
    home, attacker = caller("10.0.0.1"), caller("6.6.6.6")
    await home.log_in()
    statuses = [(await attacker.token("root", "guess")).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    refused = await attacker.token()
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["code"] == "too_many_logins"
    assert (await home.token()).status_code == 200
    # Names that do not exist are throttled alike, or the difference would tell.
    statuses = [(await caller("7.7.7.7").token("nobody", "guess")).status_code for _ in range(11)]
    assert statuses[-1] == 429


async def test_logs_name_the_user_and_never_a_secret(caller: Callable[..., Caller]) -> None:
    with capture_logs() as logs:
        pair = await caller().log_in()
        await caller().token("root", "wrong-secret")
        await caller().token("my-password-in-the-wrong-field", "x")
    events = {entry["event"]: entry for entry in logs}
    assert events["auth.login.succeeded"]["username"] == "root"
    assert events["auth.login.failed"]["address"] == "10.0.0.1"
    text = repr(logs)
    for secret in (*pair.values(), ADMIN_PASSWORD, "wrong-secret", "my-password-in-the-wrong-field"):
        assert secret == "bearer" or str(secret) not in text or secret == 1800


async def test_refresh_rotates_and_a_second_use_ends_everything_at_once(root: Caller) -> None:
    pair = await root.log_in()
    body = {"refresh_token": pair["refresh_token"]}
    second = await root.client.post("/token/refresh", json=body)
    assert second.status_code == 200 and second.headers["Cache-Control"] == "no-store"
    assert (await root.client.get("/users/me")).status_code == 200
    again = await root.client.post("/token/refresh", json=body)
    assert (again.status_code, again.json()["code"]) == (401, "refresh_refused")
    assert (await root.client.get("/users/me")).status_code == 401
    newer = {"refresh_token": second.json()["refresh_token"]}
    assert (await root.client.post("/token/refresh", json=newer)).status_code == 401


@pytest.mark.parametrize("token", ["", "x" * 513, 5, None, "é", "\x00"])
async def test_nonsense_refresh_tokens_are_a_clear_4xx(root: Caller, token: object) -> None:
    answer = await root.client.post("/token/refresh", json={"refresh_token": token})
    assert answer.status_code in (401, 422)


@pytest.mark.parametrize("path", ["/token/refresh", "/users"])
async def test_half_a_character_is_a_422(root: Caller, path: str) -> None:
    body = rb'{"refresh_token": "\ud800", "username": "alice", "password": "\ud800-paper-clip-mountain"}'
    headers = {"Content-Type": "application/json"}
    assert (await root.client.post(path, content=body, headers=headers)).status_code == 422


async def test_logout_ends_the_token_at_once_and_tells_the_other_services(root: Caller) -> None:
    pair = await root.log_in()
    assert (await root.client.post("/logout")).status_code == 204
    assert (await root.client.get("/users/me")).status_code == 401
    body = {"refresh_token": pair["refresh_token"]}
    assert (await root.client.post("/token/refresh", json=body)).status_code == 401
    feed = (await root.client.get("/internal/revocations")).json()["revocations"]
    assert [entry["token_id"] is not None for entry in feed] == [True] * len(feed) != []


async def test_users_me_says_who_i_am(root: Caller) -> None:
    me = (await root.client.get("/users/me")).json()
    assert (me["username"], me["role"], me["active"]) == ("root", "admin", True)
    assert me.keys() == {"username", "role", "active", "created_at"}


async def test_changing_my_password_ends_my_tokens(root: Caller, caller: Callable[..., Caller]) -> None:
    await root.add("alice")
    alice = caller()
    await alice.log_in("alice", PASSWORD)
    route = "/users/me/password"
    wrong = await alice.client.put(route, json={"current_password": "x", "new_password": ADMIN_PASSWORD})
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong_password")
    weak = await alice.client.put(route, json={"current_password": PASSWORD, "new_password": "aaaaaaaaaaaa"})
    assert (weak.status_code, weak.json()["code"]) == (422, "weak_password")
    body = {"current_password": PASSWORD, "new_password": "another-good-password"}
    assert (await alice.client.put(route, json=body)).status_code == 204
    assert (await alice.client.get("/users/me")).status_code == 401
    assert (await alice.token("alice", PASSWORD)).status_code == 401
    await alice.log_in("alice", "another-good-password")
    assert (await alice.client.get("/users/me")).status_code == 200


async def test_a_stolen_token_cannot_guess_the_current_password_for_ever(root: Caller) -> None:
    body = {"current_password": "guess", "new_password": PASSWORD}
    statuses = [(await root.client.put("/users/me/password", json=body)).status_code for _ in range(12)]
    assert statuses == [403] * 10 + [429] * 2


async def test_an_admin_manages_users(root: Caller) -> None:
    await root.add("alice")
    assert [user["username"] for user in (await root.client.get("/users")).json()] == ["alice", "root"]
    taken = await root.client.post("/users", json={"username": "alice", "password": PASSWORD})
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    changed = await root.client.patch("/users/alice", json={"role": "admin"})
    assert (changed.status_code, changed.json()["role"]) == (200, "admin")
    assert (await root.client.delete("/users/alice")).status_code == 204
    assert (await root.client.delete("/users/alice")).status_code == 404
    assert (await root.client.patch("/users/alice", json={"active": False})).status_code == 404


async def test_the_last_admin_stays(root: Caller) -> None:
    for answer in (
        await root.client.delete("/users/root"),
        await root.client.patch("/users/root", json={"role": "user"}),
        await root.client.patch("/users/root", json={"active": False}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
    assert (await root.client.get("/users/me")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users", {"username": "a b", "password": PASSWORD}),
        ("POST", "/users", {"username": "alice", "password": "short"}),
        ("POST", "/users", {"username": "alice", "password": PASSWORD, "role": "root"}),
        ("POST", "/users", {"username": "alice", "password": PASSWORD, "admin": True}),
        ("PATCH", "/users/root", {"username": "king"}),
        ("PATCH", "/users/ro%00ot", {"active": True}),
        ("DELETE", "/users/%F0%9F%98%80", None),
    ],
)
async def test_bad_input_about_users_is_a_422(root: Caller, method: str, path: str, body: object) -> None:
    answer = await root.client.request(method, path, json=body)
    assert answer.status_code == 422
    assert PASSWORD not in answer.text


async def test_routes_ask_for_a_token_and_admin_routes_for_the_role(
    root: Caller, caller: Callable[..., Caller]
) -> None:
    await root.add("alice")
    alice, nobody = caller(), caller()
    await alice.log_in("alice", PASSWORD)
    body = {"username": "bob", "password": PASSWORD, "current_password": PASSWORD, "new_password": PASSWORD}
    for method, path, admin_only in (
        ("GET", "/users/me", False),
        ("PUT", "/users/me/password", False),
        ("POST", "/logout", False),
        ("GET", "/users", True),
        ("POST", "/users", True),
        ("PATCH", "/users/alice", True),
        ("DELETE", "/users/alice", True),
    ):
        assert (await nobody.client.request(method, path, json=body)).status_code == 401, path
        if admin_only:
            assert (await alice.client.request(method, path, json=body)).status_code == 403, path


async def test_a_changed_role_needs_a_new_token(root: Caller, caller: Callable[..., Caller]) -> None:
    await root.add("alice", "admin")
    alice = caller()
    await alice.log_in("alice", PASSWORD)
    await root.client.patch("/users/alice", json={"role": "user"})
    assert (await alice.client.get("/users")).status_code == 401
    await alice.log_in("alice", PASSWORD)
    assert (await alice.client.get("/users")).status_code == 403


async def test_what_the_command_line_changes_holds_without_a_restart(
    root: Caller, caller: Callable[..., Caller], settings: AuthSettings
) -> None:
    await root.add("alice")
    alice = caller()
    await alice.log_in("alice", PASSWORD)
    engine = open_database(settings.database_url)
    await asyncio.to_thread(Accounts(engine, CHEAP).change, "alice", UserChange(active=False))
    engine.dispose()
    deadline = time.monotonic() + PATIENCE_S
    while (answer := await alice.client.get("/users/me")).status_code != 401:
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.02)


def test_a_revocation_holds_within_a_second_everywhere() -> None:
    """What is read that often, and asked for that often, leaves time for the answer."""
    assert feed.REFRESH_S + dependencies.REVOCATION_POLL_S < 1


async def test_public_keys_are_published_and_nothing_private(root: Caller) -> None:
    (key,) = (await root.client.get("/.well-known/jwks.json")).json()["keys"]
    assert key.keys() == {"kty", "kid", "alg", "use", "crv", "x", "y"}


async def test_ready_says_that_storage_can_be_read(root: Caller) -> None:
    assert (await root.client.get("/health/ready")).json()["dependencies"] == {"database and signing keys": "ok"}


async def test_ready_says_that_the_disk_is_full(root: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MIN_FREE_BYTES", 2**62)
    answer = await root.client.get("/health/ready")
    assert answer.status_code == 503
    assert "is full" in answer.json()["dependencies"]["database and signing keys"]


async def test_a_busy_database_is_a_503_and_no_failed_login(
    settings: AuthSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_app, "open_database", partial(open_database, wait_s=0))
    app = create_app(settings.model_copy(update={"login_failures_per_user": 1}), CHEAP)
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://a") as client:
        caller = Caller(client)
        busy = sqlite3.connect(settings.database_url.removeprefix("sqlite:///"), isolation_level=None)
        busy.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            answer = await caller.token()
            assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
            assert answer.headers["Retry-After"]
        busy.execute("ROLLBACK")
        busy.close()
        assert (await caller.token()).status_code == 200


async def test_every_operation_documents_its_answers_and_its_errors(app: FastAPI) -> None:
    schema = app.openapi()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            success = next(answer for status, answer in responses.items() if status.startswith("2"))
            assert "204" in responses or success["content"]["application/json"]["schema"], (method, path)
            assert "application/problem+json" in responses["422"]["content"], (method, path)
            assert ("401" in responses) == ("security" in operation or path.startswith("/token")), (method, path)
    form = schema["paths"]["/token"]["post"]["requestBody"]["content"]
    assert list(form) == ["application/x-www-form-urlencoded"]
    flow = schema["components"]["securitySchemes"]["OAuth2PasswordBearer"]["flows"]["password"]
    assert (flow["tokenUrl"], flow["refreshUrl"]) == ("token", "token/refresh")


@pytest.mark.parametrize("password", ["short", "change-me-please", "root-root"])
def test_a_weak_first_password_is_refused_outside_development(password: str) -> None:
    fields: dict[str, Any] = {"admin_username": "root", "admin_password": password, "_env_file": None}
    with pytest.raises(InvalidSetting, match="ADMIN_PASSWORD"):
        AuthSettings(environment="production", **fields)
    assert AuthSettings(environment="development", **fields).admin_password is not None


async def started_with(settings: AuthSettings, **values: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the users after a start with these settings, and the log events about the test user."""
    with capture_logs() as events:
        built = create_app(settings.model_copy(update=values), CHEAP)
        async with built.router.lifespan_context(built):
            users = built.state.auth.accounts.users()
    return [f"{one.username}:{one.role}" for one in users], [dict(one) for one in events if "test_user" in one["event"]]


async def test_a_test_user_is_created_at_the_first_start_and_then_left_alone(settings: AuthSettings) -> None:
    named = {"test_user": "tester", "test_user_password": SecretStr(PASSWORD)}
    users, events = await started_with(settings, **named)
    assert users == ["root:admin", "tester:user"]
    assert [one["event"] for one in events] == ["auth.test_user.created"]
    assert PASSWORD not in str(events)
    assert (await started_with(settings, **named)) == (users, [])


@pytest.mark.parametrize(
    "values",
    [
        {"environment": "production", "test_user": "tester", "test_user_password": SecretStr(PASSWORD)},
        {"test_user": "tester"},
        {"test_user": "not a name", "test_user_password": SecretStr(PASSWORD)},
    ],
    ids=["production", "no password", "invalid name"],
)
async def test_a_test_user_that_cannot_be_created_is_logged_and_ignored(
    settings: AuthSettings, values: dict[str, Any]
) -> None:
    users, events = await started_with(settings, **values)
    assert users == ["root:admin"]
    assert [one["event"] for one in events] == ["auth.test_user.ignored"]
