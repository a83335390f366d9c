"""Who gets in: at the gateway, and at each service itself, since nothing trusts the gateway alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jose import jwk, jwt

from rayonnage_gateway.routes import PUBLIC_ROUTES, PublicRoute
from rayonnage_shared.auth.tokens import SHARED_SECRET_KID
from tests.e2e.api import add_user, predict_form, problem
from tests.e2e.platform import Platform, running_platform
from tests.waiting import PATIENCE_S, eventually

PASSWORD = "une-longue-phrase-de-passe"
PROBES = {"auth": "/users/me", "ingest": "/datasets", "train": "/train/jobs", "predict": "/info"}
"""A route of each service that answers 200 to an admin."""


def name_of(route: PublicRoute) -> str:
    return f"{route.method} {route.path}"


def path_of(route: PublicRoute) -> str:
    names = {"username": "nobody", "ingest_id": "0" * 26, "job_id": "0" * 26, "name": "confusion"}
    moment = "20200101T000000Z-abcd"
    return route.path.format(version=moment, report_id=moment, **names)


def ask(url: str, token: str) -> httpx2.Response:
    return httpx2.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S)


def probes(platform: Platform) -> dict[str, str]:
    """The address of each service's probe, past the gateway and through it."""
    through = {f"{name} through the gateway": platform.base_url + path for name, path in PROBES.items()}
    return {name: platform.url(name) + path for name, path in PROBES.items()} | through


@pytest.fixture(scope="module")
def admin(platform: Platform) -> Iterator[httpx2.Client]:
    with platform.client(platform.admin_token()) as client:
        yield client


@pytest.fixture
def user(admin: httpx2.Client) -> str:
    """The name of a user without any right beyond the plain ones."""
    name = f"user-{uuid.uuid4().hex[:8]}"
    add_user(admin, name, PASSWORD)
    return name


@pytest.fixture
def user_token(platform: Platform, user: str) -> str:
    return platform.token(user, PASSWORD)


# Logging in


def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(platform: Platform, user: str) -> None:
    with platform.client() as client:
        wrong = client.post("/token", data={"username": user, "password": "not the password"})
        unknown = client.post("/token", data={"username": "nobody-at-all", "password": "not the password"})
    wrong_problem, unknown_problem = problem(wrong, 401), problem(unknown, 401)
    assert wrong.headers["www-authenticate"].startswith("Bearer")
    assert {**wrong_problem, "request_id": ""} == {**unknown_problem, "request_id": ""}


def test_guessing_is_slowed_down_for_the_guesser(platform: Platform, user: str) -> None:
    with platform.client() as client:
        statuses = []
        for _ in range(12):
            answer = client.post("/token", data={"username": user, "password": "guess"})
            statuses.append(answer.status_code)
    assert set(statuses) == {401, 429}
    assert problem(answer, 429, "too_many_logins")
    assert int(answer.headers["retry-after"]) >= 1


# Tokens that are none


def key_of(platform: Platform) -> tuple[str, str]:
    """The id and the PEM text of the key that the platform signs with."""
    path = next((platform.home / "data" / "keys").glob("*.pem"))
    return path.stem, path.read_text("ascii")


def signed(platform: Platform, key: Any = None, kid: str | None = None, **changes: Any) -> str:
    """An admin's token with changed claims, by the platform's own key unless another is given."""
    own_kid, pem = key_of(platform)
    now = time.time()
    claims = {
        "sub": platform.admin[0],
        "role": "admin",
        "jti": uuid.uuid4().hex,
        "iat": now,
        "exp": now + 600,
        "iss": "rayonnage",
        "aud": "rayonnage",
        "use": "access",
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return str(jwt.encode(claims, key or jwk.construct(pem, "ES256"), "ES256", headers={"kid": kid or own_kid}))


def unpadded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def by_hand(header: dict[str, str], payload: str, secret: bytes | None) -> str:
    """A token that no library would sign: HS256 with any secret, or no signature."""
    text = f"{unpadded(json.dumps(header).encode())}.{payload}"
    return f"{text}.{unpadded(hmac.digest(secret, text.encode(), hashlib.sha256)) if secret else ''}"


def forged(platform: Platform) -> dict[str, str]:
    """Tokens that somebody without the platform's key could make, by how."""
    kid, pem = key_of(platform)
    private = serialization.load_pem_private_key(pem.encode(), password=None)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = private.public_key().public_bytes(serialization.Encoding.PEM, form)
    own = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    good = signed(platform)
    header, payload, signature = good.split(".")
    elevated = unpadded(json.dumps({"sub": "somebody", "role": "admin", "exp": time.time() + 600, "jti": "x"}).encode())
    return {
        "own key": signed(platform, jwk.construct(own.decode(), "ES256")),
        "own key under a name of its own": signed(platform, jwk.construct(own.decode(), "ES256"), kid="mine"),
        "public key as a shared secret": by_hand({"alg": "HS256", "kid": kid}, payload, public),
        "shared secret's name": by_hand({"alg": "HS256", "kid": SHARED_SECRET_KID}, payload, public),
        "no signature": by_hand({"alg": "none", "kid": kid}, payload, None),
        "no signature, said to be there": by_hand({"alg": "ES256", "kid": kid}, payload, None),
        "other claims": f"{header}.{elevated}.{signature}",
        "key inside the token": by_hand({"alg": "HS256", "kid": kid, "jwk": "{}"}, payload, b"x" * 32),
        "not a token": "not.a.token",
        "too long": "a" * 5000,
    }


def test_a_token_with_the_right_claims_and_key_is_what_the_others_are_changed_from(platform: Platform) -> None:
    token = signed(platform)
    assert {name: ask(url, token).status_code for name, url in probes(platform).items()} == dict.fromkeys(
        probes(platform), 200
    )


def test_forged_tokens_are_refused_everywhere(platform: Platform) -> None:
    tokens = forged(platform)
    for service, url in probes(platform).items():
        for how, token in tokens.items():
            assert problem(ask(url, token), 401), f"{service}: {how}"


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"jti": None},
        {"iat": None},
        {"aud": "elsewhere"},
        {"aud": None},
        {"iss": "elsewhere"},
        {"iss": None},
        {"use": "refresh"},
        {"use": None},
        {"role": "root"},
        {"role": None},
    ],
    ids=str,
)
def test_a_token_by_the_real_key_with_wrong_claims_is_refused(platform: Platform, changes: dict[str, Any]) -> None:
    token = signed(platform, **changes)
    for url in probes(platform).values():
        document = problem(ask(url, token), 401)
        assert ("expired" in document["detail"]) == (changes == {"exp": 1})


def test_a_header_that_is_no_bearer_token_is_refused(platform: Platform) -> None:
    good = signed(platform)
    with platform.client() as client:
        for header in ("", "Bearer", f"Basic {good}", good, f"Bearer {good} {good}"):
            answer = client.get("/users/me", headers={"Authorization": header})
            problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        problem(client.get(f"/users/me?access_token={good}"), 401)


# Roles


@pytest.mark.parametrize("route", [route for route in PUBLIC_ROUTES if route.access != "public"], ids=name_of)
def test_a_route_needs_a_token(platform: Platform, route: PublicRoute) -> None:
    for address in (platform.base_url, platform.url(route.service)):
        problem(httpx2.request(route.method, address + path_of(route), timeout=PATIENCE_S), 401, "not_authenticated")


@pytest.mark.parametrize("route", [route for route in PUBLIC_ROUTES if route.access == "admin"], ids=name_of)
def test_an_admins_route_refuses_a_plain_user(platform: Platform, route: PublicRoute) -> None:
    token = signed(platform, role="user")
    headers = {"Authorization": f"Bearer {token}"}
    for address in (platform.base_url, platform.url(route.service)):
        answer = httpx2.request(route.method, address + path_of(route), headers=headers, timeout=PATIENCE_S)
        problem(answer, 403, "not_allowed")


def test_a_plain_user_may_predict_and_look(platform: Platform, user: str, user_token: str) -> None:
    with platform.client(user_token) as client:
        assert client.get("/users/me").json()["username"] == user
        assert client.post("/predict", json={"designation": "Piscine"}).status_code == 200
        assert client.get("/info").status_code == client.get("/models").status_code == 200


def test_a_role_that_was_taken_away_is_gone(platform: Platform, admin: httpx2.Client) -> None:
    name = f"admin-{uuid.uuid4().hex[:8]}"
    add_user(admin, name, PASSWORD, "admin")
    token = platform.token(name, PASSWORD)
    assert ask(f"{platform.base_url}/users", token).status_code == 200
    assert admin.patch(f"/users/{name}", json={"role": "user"}).status_code == 200
    wait_until_refused(platform, token)
    assert ask(f"{platform.base_url}/users", platform.token(name, PASSWORD)).status_code == 403


# Ending


def wait_until_refused(platform: Platform, token: str) -> None:
    """Return once every service refuses the token, which takes less than a second (see tests/unit/auth)."""
    opens = probes(platform)

    def all_refuse() -> bool:
        for name, url in list(opens.items()):
            if ask(url, token).status_code == 401:
                del opens[name]
        return not opens

    assert eventually(all_refuse), f"the token still opens {sorted(opens)}"


def test_a_logout_holds_on_every_service(platform: Platform) -> None:
    token, other = platform.admin_token(), platform.admin_token()
    urls = probes(platform)
    assert {ask(url, token).status_code for url in urls.values()} == {200}
    answer = httpx2.post(
        f"{platform.base_url}/logout", headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S
    )
    assert answer.status_code == 204
    wait_until_refused(platform, token)
    assert {ask(url, other).status_code for url in urls.values()} == {200}, "another session of the user ended too"


def test_a_logout_ends_the_refresh_token_too(platform: Platform, user: str) -> None:
    with platform.client() as client:
        pair = log_in(client, user)
        client.headers["Authorization"] = f"Bearer {pair['access_token']}"
        assert client.post("/logout").status_code == 204
        problem(refresh(client, pair), 401, "refresh_refused")


def log_in(client: httpx2.Client, user: str) -> dict[str, str]:
    answer = client.post("/token", data={"username": user, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    pair: dict[str, str] = answer.json()
    return pair


def refresh(client: httpx2.Client, pair: dict[str, str]) -> httpx2.Response:
    return client.post("/token/refresh", json={"refresh_token": pair["refresh_token"]})


def test_a_refresh_token_used_twice_ends_its_family(platform: Platform, user: str) -> None:
    with platform.client() as client:
        other_family = log_in(client, user)
        first = log_in(client, user)
        second = refresh(client, first).json()
        assert ask(f"{platform.base_url}/users/me", second["access_token"]).status_code == 200

        problem(refresh(client, first), 401, "refresh_refused")

        problem(refresh(client, second), 401, "refresh_refused")
        refused = f"{platform.url('predict')}/info"
        assert eventually(lambda: ask(refused, second["access_token"]).status_code == 401)
        assert eventually(lambda: ask(refused, first["access_token"]).status_code == 401)
        assert refresh(client, other_family).status_code == 200, "another login of the user ended too"


def test_a_removed_user_is_out(platform: Platform, admin: httpx2.Client, user: str) -> None:
    token = platform.token(user, PASSWORD)
    assert ask(f"{platform.base_url}/info", token).status_code == 200
    assert admin.delete(f"/users/{user}").status_code == 204
    url = f"{platform.url('predict')}/info"
    assert eventually(lambda: ask(url, token).status_code == 401)


def test_the_last_admin_stays(platform: Platform, admin: httpx2.Client) -> None:
    name = platform.admin[0]
    others = [one["username"] for one in admin.get("/users").json() if one["role"] == "admin" and one["active"]]
    assert others == [name]
    problem(admin.delete(f"/users/{name}"), 409)
    problem(admin.patch(f"/users/{name}", json={"role": "user"}), 409)


# Limits and short lives


@pytest.fixture(scope="module")
def strict(trained_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose tokens live for six seconds and whose users may ask for four predictions a minute."""
    settings = {"PREDICT_RATE_LIMIT": "4/minute", "ACCESS_TOKEN_EXPIRE_MINUTES": "0.1"}
    with running_platform(tmp_path_factory.mktemp("strict"), settings, volume=trained_volume) as platform:
        yield platform


def test_an_access_token_ends_with_its_time_and_the_refresh_token_gives_a_new_one(strict: Platform) -> None:
    with strict.client() as client:
        username, password = strict.admin
        pair = client.post("/token", data={"username": username, "password": password}).json()
        assert pair["expires_in"] == 6
        url = f"{strict.url('predict')}/info"
        assert ask(url, pair["access_token"]).status_code == 200
        assert eventually(lambda: ask(url, pair["access_token"]).status_code == 401)
        for address in probes(strict).values():
            assert "expired" in problem(ask(address, pair["access_token"]), 401)["detail"]
        assert ask(url, refresh(client, pair).json()["access_token"]).status_code == 200


def test_the_three_prediction_routes_share_one_limit_for_each_user(strict: Platform, sample: Path) -> None:
    photo = (sample / "exemple.jpg").read_bytes()
    # Signed here, since tokens of this platform last six seconds.
    with strict.client(signed(strict)) as client:
        assert client.post("/predict", json={"designation": "Piscine"}).status_code == 200
        assert client.post("/predict/text/manual", json={"designation": "Piscine"}).status_code == 200
        assert predict_form(client, photo, "/predict/image/manual").status_code == 200
    with strict.client(signed(strict)) as client:  # another token of the same user counts with the first
        problem(client.post("/predict", json={}), 422)
        for path in ("/predict", "/predict/text/manual", "/predict/image/manual"):
            answer = client.post(path, json={"designation": "Piscine"})
            document = problem(answer, 429, "too_many_requests")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert document["retry_after_s"] == int(answer.headers["retry-after"])
            assert "4 per 1 minute" in document["detail"]
        assert client.get("/info").status_code == 200, "only predictions are limited"
    with strict.client(signed(strict, sub="other")) as client:
        assert client.post("/predict", json={"designation": "Piscine"}).status_code == 200
